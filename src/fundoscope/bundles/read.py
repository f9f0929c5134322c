"""Reading a bundle without torch: every file is checked before any is used, and the networks run on ONNX Runtime, or on OpenVINO.

Here stands what bundles of all tasks share, and `Bundle`, that of a classifier; `read_nicking` has the other one.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from fundoscope.bundles.card import CARDS, SCHEMA_VERSION, BaseCard, Card, Stage, seal, with_todays_names
from fundoscope.errors import BundleError, UsageError, nearest, need
from fundoscope.processors import share_processors
from fundoscope.stopwatch import NETWORK, stage

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from fundoscope.bundles.openvino_session import OpenVinoSession

CARD_FILE = "bundle.json"
SHIPPED = Path(__file__).resolve().parent.parent / "shipped"

#: Names of the ONNX outputs of each stage: logits and activation map.
OUTPUTS = (("logits", "activation"), ("second_logits", "second_activation"))

Precision = Literal["int8", "fp32"]
Runtime = Literal["onnxruntime", "openvino"]
#: What runs networks, by the names of `--runtime`.
RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino")
C = TypeVar("C", bound=BaseCard)

_AGAIN = "Copy the bundle again from where it was made, or reinstall fundoscope."


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified classifier, ready to run; one `Bundle` may be used from many threads at once."""

    folder: Path
    card: Card
    precision: Precision
    session: InferenceSession | OpenVinoSession
    runtime: Runtime = "onnxruntime"

    def __reduce__(self) -> tuple[Any, ...]:
        """A bundle travels to another process as the path of its folder."""
        options = (1, self.precision, self.runtime)
        return reopened, (open_bundle, self.folder.resolve(), self.card.model_dump_json(), *options)

    @property
    def stage(self) -> Stage:
        """The first question: names of its classes, temperature, threshold."""
        return self.card.stages[0]

    @property
    def second(self) -> Stage | None:
        """The question that is asked only where the first one is answered with yes; None if the bundle has one question."""
        return self.card.stages[1] if len(self.card.stages) > 1 else None

    def run(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (n, 2) and class activation maps (n, rows, columns) of network input (n, 3, size, size).

        The map is in logits: each pixel tells how much that part of the photograph speaks for the positive class, and
        the mean over the map is logit 1 minus logit 0.
        """
        return self.run_stages(batch, 1)[0]

    def run_stages(
        self, batch: NDArray[np.float32], stages: int
    ) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Logits and maps as `run` gives them, of the first stage or of both; layers that both share run once.

        Raises `UsageError` for a batch of another shape, `BundleError` where a logit is not a finite number.
        """
        size = self.card.standard.size
        if batch.ndim != 4 or batch.shape[1:] != (3, size, size):
            raise UsageError(
                f"a batch of shape {batch.shape} does not fit bundle '{self.card.name}', which takes "
                f"(n, 3, {size}, {size}). Make it with the bundle's own standard: bundle.card.standard.apply."
            )
        batch = np.ascontiguousarray(batch, np.float32)
        names = [name for stage in OUTPUTS[:stages] for name in stage]
        outputs = [np.asarray(output) for output in run_outputs(self.session, names, batch)]
        if not all(np.isfinite(logits).all() for logits in outputs[::2]):
            raise BundleError(
                f"bundle '{self.card.name}' gave a logit that is no finite number. "
                "Check that the input is finite; if it is, report this bundle to its makers."
            )
        return list(zip(outputs[::2], outputs[1::2], strict=True))

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probability of the positive class, (n,), for logits (n, 2)."""
        return self.stage.probabilities(logits)

    def decide(self, probability: float) -> bool:
        """Whether a probability is at or above the operating point."""
        return bool(self.stage.decisions(np.array([probability]))[0])


@lru_cache(maxsize=8)
def reopened(opener: Callable[..., Any], folder: Path, card_text: str, *options: Any) -> Any:
    """A bundle that another process had opened, opened here, once a process; `BundleError` if it was changed since."""
    bundle = opener(folder, *options)
    if bundle.card.model_dump_json() != card_text:
        raise BundleError(f"{folder}: the bundle was changed since it was opened. Open it again.")
    return bundle


def find_bundles() -> dict[str, Path]:
    """The bundles shipped with the package, name -> folder, not yet verified."""
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{CARD_FILE}"))}


def locate(path_or_name: str | Path) -> Path:
    """The folder of a bundle, given by the name of a shipped one or by its path; `BundleError` if there is none."""
    shipped = find_bundles()
    if str(path_or_name) in shipped:
        return shipped[str(path_or_name)]
    folder = Path(path_or_name)
    if (folder / CARD_FILE).is_file():
        return folder
    if folder.is_dir():
        cause = f"the folder holds no {CARD_FILE}"
    else:
        cause = "it is a file, and a bundle is a folder" if folder.exists() else "there is no such folder"
    remedy = "Name a bundle's folder; this installation ships none."
    if shipped:
        remedy = f"Name a bundle's folder, or a shipped one: {nearest(str(path_or_name), shipped)}"
    raise BundleError(f"{path_or_name} is no bundle: {cause}. {remedy}")


def verify(folder: str | Path) -> BaseCard:
    """The card of a bundle, after the checksum of every file was compared; `BundleError` names the first that differs."""
    folder = locate(folder)
    card = _read_card(folder)
    for name in card.files:
        checked_bytes(folder, name, card)
    return card


def verify_task(folder: Path, kind: type[C]) -> C:
    """The card of a verified bundle of one kind; for another kind `BundleError` names the command that takes it."""
    card = verify(folder)
    if not isinstance(card, kind):
        raise BundleError(
            f"bundle '{card.name}' at {folder} is for the task '{card.task}'. Give it to `fundoscope {card.task}`."
        )
    return card


def open_bundle(
    path_or_name: str | Path, threads: int = 1, precision: Precision = "int8", runtime: Runtime = "onnxruntime"
) -> Bundle:
    """Verify the bundle of a classifier, given by a shipped name or a folder, and load its network.

    `threads` work on one photograph (see `share_processors`); whoever screens several photographs at once keeps 1.
    Raises `BundleError` when anything is missing, changed, newer than this program, or of a task that it does not know, and
    `MissingExtraError` where the runtime is not installed.
    """
    folder = locate(path_or_name)
    card = verify_task(folder, Card)
    name = f"model.{precision}.onnx"
    if name not in card.files:
        there = ", ".join(sorted(file for file in card.files if file.endswith(".onnx"))) or "none"
        raise BundleError(
            f"bundle '{card.name}' at {folder} ships no {name} (its networks: {there}). "
            "Open it with the other precision, or make the bundle anew with both."
        )
    # read once more, checked once more: what runs is what was verified
    data = checked_bytes(folder, name, card)
    network = load_on_runtime(data, str(folder / name), share_processors(threads), runtime)
    return Bundle(folder, card, precision, network, runtime)


def _read_card(folder: Path) -> BaseCard:
    path = folder / CARD_FILE
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read ({type(error).__name__}). {_AGAIN}") from error
    _check_schema(path, values)
    if values.get("seal") != seal(values):
        raise BundleError(f"{path} was changed after it was written. {_AGAIN}")
    if values.get("task") not in CARDS:
        raise BundleError(
            f"{path} is for the task '{values.get('task')}', which this program does not know; it knows "
            f"{', '.join(CARDS)}. Upgrade fundoscope, or use another bundle."
        )
    try:
        values = with_todays_names(values)
        return CARDS[values["task"]].model_validate({key: value for key, value in values.items() if key != "seal"})
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path} does not fit its schema, at {at}: {first['msg']}. {_AGAIN}") from error


def _check_schema(path: Path, values: Any) -> None:
    version = values.get("schema_version") if isinstance(values, dict) else None
    if type(version) is not int or version < 1:
        raise BundleError(f"{path} names no schema version. {_AGAIN}")
    if version > SCHEMA_VERSION:
        maker = values.get("fundoscope", "a newer version")
        raise BundleError(
            f"{path} has schema version {version} (made by fundoscope {maker}); this program reads up to "
            f"{SCHEMA_VERSION}. Upgrade fundoscope: pip install --upgrade fundoscope."
        )


def checked_bytes(folder: Path, name: str, card: BaseCard) -> bytes:
    """The bytes of a file of a bundle; `BundleError` where it is missing or its checksum is not the card's."""
    path = folder / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} is missing or unreadable, and {CARD_FILE} lists it. {_AGAIN}") from error
    if hashlib.sha256(data).hexdigest() != card.files[name].sha256:
        raise BundleError(f"{path} was changed or damaged: {CARD_FILE} has another checksum. {_AGAIN}")
    return data


def check_runtime(name: str) -> Runtime:
    """The runtime of this name; raises `UsageError` for another one, `MissingExtraError` where it is not installed."""
    if name not in RUNTIMES:
        raise UsageError(f"--runtime {name}: there is no such runtime; {nearest(name, RUNTIMES)}")
    if name == "openvino":
        need("openvino", what="--runtime openvino", extra="openvino")
    return name


def load_on_runtime(
    model: bytes, name: str, threads: int = 1, runtime: Runtime = "onnxruntime"
) -> InferenceSession | OpenVinoSession:
    """A session of a runtime for the bytes of an ONNX file; see `load_network` and `OpenVinoSession`."""
    if runtime == "openvino":
        from fundoscope.bundles.openvino_session import OpenVinoSession

        return OpenVinoSession(model, name, threads)
    return load_network(model, name, threads)


def load_network(model: bytes, name: str, threads: int = 1) -> InferenceSession:
    """An ONNX Runtime session on the processor for the bytes of an ONNX file.

    `name` stands in the message of the `BundleError` that is raised where the file cannot be loaded.
    """
    import onnxruntime  # here, since it takes 0.1 s that `--help` need not wait for
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # ty: ignore[missing-module-member]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # not session.set_denormal_as_zero: it would change the arithmetic of the caller's own thread, for good
    # waiting threads sleep: processors are for the other photographs
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if _sums_saturate(platform.machine(), Path("/proc/cpuinfo")):
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented) as error:
        raise BundleError(
            f"{name} cannot be loaded by ONNX Runtime {onnxruntime.__version__} "
            f"({str(error).splitlines()[0][:160]}). Upgrade onnxruntime."
        ) from error


def run_outputs(session: InferenceSession | OpenVinoSession, names: list[str], batch: NDArray[np.float32]) -> list[Any]:
    """The outputs of these names for a batch; nodes that only other outputs need are not run."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    with stage(NETWORK):
        return list(session.run(names, {"photograph": batch}, options))


def describe_processor() -> str:
    """The kind of this machine's processor as far as INT8 sums go, such as "x86_64 with VNNI"."""
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if machine != "x86_64":
        return machine
    return f"{machine} {'without' if _sums_saturate(machine, Path('/proc/cpuinfo')) else 'with'} VNNI"


def _sums_saturate(machine: str, processor: Path) -> bool:
    """Whether sums of U8 x S8 products can overflow 16 bits here: on x86 without VNNI, or where that is unknown.

    ONNX Runtime then works in U8 x U8, which is exact everywhere, but 2.6 times slower where VNNI would do.
    """
    if machine.lower() not in ("x86_64", "amd64"):
        return False
    try:
        return "vnni" not in processor.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
