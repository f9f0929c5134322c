"""Golden vectors: a few simulated pictures in a bundle, with the network's input and answers for them.

Whoever runs a bundle elsewhere (another processor, another runtime, another language) checks with them that its numbers are ours:

    picture -> tensor     the standard's steps: field, square, contrast, scale
    tensor  -> answers    every output of every network of the bundle
    answers -> decision   probability and decision of a classifier

`golden.json` lists them: a tensor by its shape, the SHA-256 of its bytes (float32, little-endian, C order) and 64 values at equal
distances through it. INT8 sums are exact on processors with VNNI, on ARM, and without either in ONNX Runtime's exact mode; what
saturates them strays by tenths of a logit. Another runtime fuses INT8 layers otherwise: there maps of activation stray by a few per
cent, and what counts is the probability.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fundoscope.bundles.card import BaseCard, Card, FileName, NickingCard, Sha256
from fundoscope.bundles.folder import rewrite_bundle
from fundoscope.bundles.read import (
    Bundle,
    Precision,
    Runtime,
    checked_bytes,
    describe_processor,
    open_bundle,
    verify,
)
from fundoscope.bundles.read_nicking import GRADES_FILE, MAPS_FILE, NickingBundle, open_nicking_bundle
from fundoscope.errors import BundleError
from fundoscope.imaging import Pixels, read
from fundoscope.imaging.local_contrast import local_contrast
from fundoscope.simulate import adults, infants

GOLDEN_FILE = "golden.json"
#: Largest difference of an answer from the golden one, as a share of the largest golden value: rounding of floats; and, of INT8
#: networks on another kind of processor or of inputs that another JPEG decoder made, a few steps of an INT8 scale.
ROUNDING, STEPS = 1e-4, 0.02
#: The same of INT8 networks on another runtime, where a probability may differ by `PROBABILITY`.
FUSED, PROBABILITY = 0.1, 0.01
TENSOR = 0.03  # of the network's input: JPEG decoders differ by a level or two of 255
_SAMPLES = 64
_SQUARES, _PHOTOGRAPHS = 2, 2
_CROP = 128  # pixels; of an adult's photograph, for the network of vessel maps


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TensorRecord(_Record):
    """An array as it stands in `golden.json`; `samples` are its values at `sample_places`."""

    shape: tuple[int, ...]
    sha256: Sha256
    samples: tuple[float, ...] = Field(min_length=1)

    @classmethod
    def of_array(cls, array: NDArray[Any]) -> TensorRecord:
        """The record of an array, as float32."""
        flat = np.ascontiguousarray(array, "<f4").ravel()
        samples = [float(value) for value in flat[sample_places(flat.size)]]
        return cls(shape=array.shape, sha256=hashlib.sha256(flat.tobytes()).hexdigest(), samples=tuple(samples))

    def difference(self, array: NDArray[Any]) -> float:
        """The largest difference of a sample; infinite for another shape or values that are not finite."""
        if array.shape != self.shape or not np.isfinite(array).all():
            return float("inf")
        found = np.ascontiguousarray(array, np.float32).ravel()[sample_places(array.size)]
        return float(np.abs(found - np.array(self.samples, np.float32)).max())


class GoldenPicture(_Record):
    """One picture: a standard `square`, a whole `photograph`, or a `crop` of one at the scale of the vessel maps.

    `outputs` are a network file's answers by their names.
    """

    file: FileName
    kind: Literal["square", "photograph", "crop"]
    tensor: TensorRecord
    outputs: dict[FileName, dict[str, TensorRecord]]


class GoldenVectors(_Record):
    """All golden vectors of a bundle, and the runtime and processor that made them."""

    runtime: str
    processor: str
    pictures: tuple[GoldenPicture, ...] = Field(min_length=1)


@dataclass
class SelfTest:
    """How a bundle did on its golden vectors: `lines` in words, `faults` those of them that are none of ours to accept."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def note(self, what: str, difference: float, most: float) -> None:
        """Write down a difference; one above `most` is a fault."""
        line = f"{what}: differs by {difference:.2g} at most, allowed are {most:.2g}"
        self.lines.append(line)
        if not difference <= most:
            self.faults.append(line)


def sample_places(size: int) -> NDArray[np.int64]:
    """Places of the samples in an array of `size` values, read in C order: 64 at equal distances, from the first to the last."""
    return np.unique(np.linspace(0, size - 1, min(size, _SAMPLES)).round().astype(np.int64))


def runtime_name(runtime: Runtime = "onnxruntime") -> str:
    """The runtime and its version."""
    if runtime == "openvino":
        from fundoscope.bundles.openvino_session import runtime_version

        return runtime_version()
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def add_golden(folder: Path, out: Path | None = None) -> BaseCard:
    """Draw the golden pictures of a verified bundle, let it answer, and write both into it, or into a copy of it in `out`.

    Returns the card. Raises `BundleError` for a bundle that is broken.
    """
    card = verify(folder)
    pictures = {name: (kind, encoded) for name, kind, encoded in _draw_pictures(card)}
    opened = dict(_open_networks(folder, card))
    made = []
    for name, (kind, encoded) in pictures.items():
        tensor = _tensor(card, kind, encoded, name)
        outputs = {
            file: {key: TensorRecord.of_array(value) for key, value in answer(network, tensor).items()}
            for file, network in opened.items()
        }
        made.append(GoldenPicture(file=name, kind=kind, tensor=TensorRecord.of_array(tensor), outputs=outputs))
    vectors = GoldenVectors(runtime=runtime_name(), processor=describe_processor(), pictures=tuple(made))
    added = {name: encoded for name, (_, encoded) in pictures.items()}
    added[GOLDEN_FILE] = (vectors.model_dump_json(indent=1) + "\n").encode()
    return rewrite_bundle(folder, type(card), {}, out, added)


def check_golden(folder: Path, runtime: Runtime = "onnxruntime") -> SelfTest:
    """Run a bundle on its golden vectors on this machine.

    Raises `BundleError` for a bundle that is broken or holds none.
    """
    card = verify(folder)
    return compare_golden(folder, card, dict(_open_networks(folder, card, runtime)), runtime)


def compare_golden(
    folder: Path, card: BaseCard, opened: Mapping[str, Bundle | NickingBundle], runtime: Runtime
) -> SelfTest:
    """Compare networks, opened on a runtime, by the names of their files with the golden vectors of a verified bundle."""
    vectors = _read_vectors(folder, card)
    test = SelfTest()
    same = vectors.processor == describe_processor()
    here = f"{runtime_name(runtime)} on {describe_processor()}"
    test.lines.append(f"made with {vectors.runtime} on {vectors.processor}; this is {here}")
    for picture in vectors.pictures:
        tensor = _tensor(card, picture.kind, checked_bytes(folder, picture.file, card), picture.file)
        test.note(f"{picture.file}: picture to tensor", picture.tensor.difference(tensor), TENSOR)
        for file, network in opened.items():
            if file not in picture.outputs:
                raise BundleError(f"{folder / GOLDEN_FILE} has no answers of {file}. {_REMAKE}")
            found = answer(network, tensor)
            equal = TensorRecord.of_array(tensor).sha256 == picture.tensor.sha256
            share = ROUNDING if equal and (same or "int8" not in file) else STEPS
            if runtime != "onnxruntime" and "int8" in file:
                share = FUSED
            for name, record in picture.outputs[file].items():
                difference = record.difference(found[name]) if name in found else float("inf")
                test.note(f"{picture.file}: {file}, {name}", difference, share * max(map(abs, record.samples)))
            if isinstance(network, Bundle):
                _compare_decision(test, picture, file, network, found["logits"], PROBABILITY if equal else 1.0)
    return test


def golden_inputs(folder: Path) -> list[NDArray[np.float32]]:
    """Network input of each golden picture of a bundle, as it is made here."""
    card = verify(folder)
    pictures = _read_vectors(folder, card).pictures
    return [_tensor(card, each.kind, checked_bytes(folder, each.file, card), each.file) for each in pictures]


def _read_vectors(folder: Path, card: BaseCard) -> GoldenVectors:
    if GOLDEN_FILE not in card.files:
        raise BundleError(
            f"bundle '{card.name}' at {folder} holds no golden vectors. Add them: fundoscope bundle selftest {folder} --add."
        )
    try:
        return GoldenVectors.model_validate_json(checked_bytes(folder, GOLDEN_FILE, card))
    except ValidationError as error:
        raise BundleError(
            f"{folder / GOLDEN_FILE} does not fit its schema: {error.errors()[0]['msg']}. {_REMAKE}"
        ) from error


_REMAKE = "Make them anew: fundoscope bundle selftest BUNDLE --add."


def _compare_decision(
    test: SelfTest, picture: GoldenPicture, file: str, bundle: Bundle, logits: NDArray[Any], most: float
) -> None:
    """Probability, which may differ by `most`, and decision of the first question, at today's temperature and threshold."""
    golden = np.array([picture.outputs[file]["logits"].samples], np.float32)
    p, expected = (float(bundle.probabilities(each)[0]) for each in (logits, golden))
    line = f"{picture.file}: {file}, probability {p:.4f}, golden {expected:.4f}"
    test.lines.append(line)
    if abs(p - expected) > most or bundle.decide(p) != bundle.decide(expected):
        test.faults.append(f"{line}: another answer")


def answer(network: Bundle | NickingBundle, tensor: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Every output of a network for the input of a golden picture, by the names of the ONNX file."""
    if isinstance(network, Bundle):
        stages = network.run_stages(tensor[None], len(network.card.stages))
        names = ("logits", "activation"), ("second_logits", "second_activation")
        return {
            name: value
            for pair, stage in zip(names, stages, strict=False)
            for name, value in zip(pair, stage, strict=True)
        }
    maps = network.map_vessels(tensor)
    if network.graders is None:
        return {"maps": maps}
    side = network.card.grades.side if network.card.grades is not None else 0
    patch = np.concatenate([tensor, maps[:3]])[None, :, :side, :side]
    probabilities, attention = network.grade_patches(np.ascontiguousarray(patch, np.float32))
    return {"maps": maps, "probabilities": probabilities, "attention": attention}


def _open_networks(
    folder: Path, card: BaseCard, runtime: Runtime = "onnxruntime"
) -> Iterator[tuple[str, Bundle | NickingBundle]]:
    """Every network file of a bundle, opened."""
    if isinstance(card, NickingCard):
        bundle = open_nicking_bundle(folder, threads=1, runtime=runtime)
        yield (MAPS_FILE if bundle.graders is None else GRADES_FILE), bundle
        return
    precisions: tuple[Precision, ...] = ("int8", "fp32")
    for precision in precisions:
        if f"model.{precision}.onnx" in card.files:
            yield f"model.{precision}.onnx", open_bundle(folder, precision=precision, runtime=runtime)


def _tensor(card: BaseCard, kind: str, encoded: bytes, name: str) -> NDArray[np.float32]:
    """Network input of a golden picture."""
    if isinstance(card, Card) and kind == "photograph":
        return card.standard.apply(card.standard.prepare(encoded, name))
    pixels = read(encoded, name).pixels
    if isinstance(card, Card):
        return card.standard.tensor(card.standard.enhance(pixels))
    return local_contrast(pixels, np.ones(pixels.shape[:2], bool))


def _draw_pictures(card: BaseCard) -> Iterator[tuple[str, Literal["square", "photograph", "crop"], bytes]]:
    """Simulated pictures of the population, encoded: name, kind, bytes."""
    if not isinstance(card, Card):
        photograph = adults.adult(1, size=_CROP * 5).pixels
        top, left = (np.array(photograph.shape[:2]) - _CROP) // 2
        yield "golden_crop.png", "crop", _encode(photograph[top : top + _CROP, left : left + _CROP], ".png")
        return
    diseases = ("normal", "treatment-requiring")
    for number in range(_SQUARES):
        pixels = infants.infant(number, disease=diseases[number % 2], size=640).pixels
        square = card.standard.square(card.standard.prepare(pixels, "simulated"))
        yield f"golden_square_{number + 1}.png", "square", _encode(square, ".png")
    for number, ending in enumerate((".jpg", ".png")[:_PHOTOGRAPHS]):
        pixels = infants.infant(10 + number, disease=diseases[number % 2], size=320 if ending == ".png" else 640).pixels
        yield f"golden_photograph_{number + 1}{ending}", "photograph", _encode(pixels, ending)


def _encode(pixels: Pixels, ending: str) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 90] if ending == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 9]
    done, encoded = cv2.imencode(ending, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    assert done
    return encoded.tobytes()
