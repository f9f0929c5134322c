"""From a photograph to its vascular index: maps, the vessels around the disc, a score, and its percentile among normal ones.

`vascular_index.json` holds the score's weights, which were fitted on simulated eyes with and without plus disease, and the scores of
normal photographs by camera. `vessels.fp16.onnx` is the network. Both are made by `make weights-infant-vessels`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fundoscope.errors import BundleError, UsageError, nearest
from fundoscope.findings import VascularFinding
from fundoscope.imaging import Pixels, Prepared
from fundoscope.languages import kept_text
from fundoscope.rop.vascular.network import NETWORK_FILE, InfantMaps, map_infant
from fundoscope.vessels.graph import vessel_graph
from fundoscope.vessels.posterior import OUTER, PosteriorVessels, find_infant_disc, measure_posterior_vessels

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FOLDER = Path(__file__).parent
INDEX_FILE = "vascular_index.json"
POOLED = "pooled"

#: From which index on vessels are unusual, and up to which they are unremarkable, where the network's answer is the contrary.
HIGH, LOW = 95.0, 50.0
SURE = 0.9  # probability of ROP from which on the network counts as sure

WIDE_BUT_UNSEEN = kept_text(
    "The two witnesses disagree: vessels around the disc are wider or more tortuous than in {index:.0f} of 100 normal photographs, and the "
    "network sees no ROP. Look at this photograph."
)
SURE_BUT_USUAL = kept_text(
    "The two witnesses disagree: the network is sure of ROP, and vessels around the disc are as in normal photographs (index {index:.0f}). "
    "ROP without plus disease looks so; so does a mistake. Look at this photograph."
)
UNKNOWN_CAMERA = kept_text(
    "camera not given: compared with normal photographs of {cameras} together. Give it with --camera."
)


@dataclass(frozen=True, slots=True)
class VascularReference:
    """Scores of normal photographs of one camera, ascending, of the `photographs` that were looked at; the others showed no disc, or too
    little around it. `source` says whose photographs these are.
    """

    scores: tuple[float, ...]
    photographs: int
    source: str

    def percentile(self, score: float) -> float:
        """Of 100 normal photographs, how many score lower: 0 below all of them, 100 above all, straight lines between."""
        n = len(self.scores)
        ranks = (np.arange(n) + 0.5) / n * 100
        return float(np.interp(score, self.scores, ranks, left=0.0, right=100.0))


@dataclass(frozen=True, slots=True)
class VascularWeights:
    """The score of a photograph: a weighted sum of the logarithms of width and tortuosity, each less its `centre` and by its `spread`.

    `floor` is added to the tortuosity, so that straight vessels do not weigh without end. Positive scores look more like plus disease in the
    simulated eyes it was `fitted_on`.
    """

    centre: tuple[float, float]
    spread: tuple[float, float]
    weight: tuple[float, float]
    floor: float
    fitted_on: str

    def features(self, vessels: PosteriorVessels) -> tuple[float, float]:
        """Logarithms of width in disc diameters and of tortuosity; nan where they were not measured."""
        return vascular_features(vessels, self.floor)

    def score(self, vessels: PosteriorVessels) -> float | None:
        """The score; None where the photograph was not measured."""
        if vessels.reason:
            return None
        parts = zip(self.features(vessels), self.centre, self.spread, self.weight, strict=True)
        return float(sum(weight * (value - centre) / spread for value, centre, spread, weight in parts))


def vascular_features(vessels: PosteriorVessels, floor: float) -> tuple[float, float]:
    """Logarithms of width in disc diameters, and of tortuosity plus `floor`; nan where they were not measured."""
    if vessels.width is None or vessels.tortuosity is None:
        return float("nan"), float("nan")
    return float(np.log(vessels.width)), float(np.log(vessels.tortuosity + floor))


@dataclass(frozen=True, slots=True, eq=False)
class VascularReading:
    """What is said of one photograph's vessels: the `finding` for the tables, and `maps` and `vessels` behind it."""

    finding: VascularFinding
    maps: InfantMaps
    vessels: PosteriorVessels

    def picture(self) -> Pixels | None:
        """A square around the ring of vessels, with disc, ring and vessels drawn; None where no disc was found."""
        disc = self.vessels.disc
        if disc is None:
            return None
        canvas = self.maps.pixels.copy()
        self.vessels.draw(canvas)
        half = round((OUTER + 0.3) * disc.diameter)
        padded = np.pad(canvas, ((half, half), (half, half), (0, 0)))
        row, column = round(disc.row), round(disc.column)  # of the square's upper left corner, on the padded picture
        return np.ascontiguousarray(padded[row : row + 2 * half, column : column + 2 * half])


@dataclass(frozen=True, slots=True, eq=False)
class VascularIndex:
    """A verified network with its settings, ready to read photographs of one camera; it may be used from many threads at once.

    `camera` is one of `references`, or blank where it is not known: then all normal photographs together are the reference.
    """

    session: InferenceSession
    threshold: float
    weights: VascularWeights
    references: Mapping[str, VascularReference]
    camera: str = ""
    digest: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        """It travels to another process as the name of its camera."""
        return open_vascular_index, (self.camera,)

    @property
    def reference(self) -> VascularReference:
        """The normal photographs that an index is a percentile among."""
        if self.camera:
            return self.references[self.camera]
        every = list(self.references.values())
        scores = tuple(sorted(score for each in every for score in each.scores))
        return VascularReference(
            scores, sum(each.photographs for each in every), "; ".join(each.source for each in every)
        )

    @property
    def described_reference(self) -> str:
        """The reference in words: how many normal photographs, and whose."""
        return f"{len(self.reference.scores)} of {self.reference.photographs} {self.reference.source}"

    def measure(self, photograph: Prepared) -> tuple[InfantMaps, PosteriorVessels]:
        """Maps of a photograph and the vessels around its disc."""
        maps = map_infant(photograph, self.session)
        return maps, measure_infant_maps(maps, self.threshold)

    def read(self, photograph: Prepared, p_rop: float | None = None, rop: bool | None = None) -> VascularReading:
        """What is said of a photograph's vessels; `p_rop` and `rop` are the network's answer, with which it is compared."""
        maps, vessels = self.measure(photograph)
        score = self.weights.score(vessels)
        index = None if score is None else round(self.reference.percentile(score), 1)
        known = "" if self.camera else UNKNOWN_CAMERA.format(cameras=", ".join(self.references))
        finding = VascularFinding(
            index,
            self.camera or POOLED,
            None if index is None else vessels.width,
            None if index is None else vessels.tortuosity,
            {each.name: each.width for each in vessels.quadrants},
            {each.name: each.tortuosity for each in vessels.quadrants},
            compare_witnesses(index, p_rop, rop),
            vessels.reason or "; ".join(filter(None, [describe_quadrants(vessels), known])),
        )
        return VascularReading(finding, maps, vessels)


def measure_infant_maps(maps: InfantMaps, threshold: float) -> PosteriorVessels:
    """The vessels around the disc on the maps of a photograph; from `threshold` on a pixel is a vessel's."""
    graph = vessel_graph((maps.vessel >= threshold) & maps.inside)
    disc = find_infant_disc(graph, maps.disc, maps.inside, maps.pixels)
    return measure_posterior_vessels(maps.vessel, graph, threshold, disc, maps.inside)


def compare_witnesses(index: float | None, p_rop: float | None, rop: bool | None) -> str:
    """In words where index and probability strongly disagree; blank where they do not, or where one is missing."""
    if index is None or p_rop is None:
        return ""
    if index >= HIGH and rop is False:
        return WIDE_BUT_UNSEEN.format(index=index)
    return SURE_BUT_USUAL.format(index=index) if index <= LOW and p_rop >= SURE else ""


def describe_quadrants(vessels: PosteriorVessels) -> str:
    """Which quadrants were not measured, and why; blank where all were."""
    missing: dict[str, list[str]] = {}
    for each in vessels.quadrants:
        if each.reason:
            missing.setdefault(each.reason, []).append(each.name.replace("_", " "))
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in missing.items())


def open_vascular_index(camera: str = "", folder: Path = FOLDER) -> VascularIndex:
    """The index that ships, for photographs of a camera; blank for an unknown one.

    Raises `UsageError` for a camera that has no reference, `BundleError` where a file is missing or was changed.
    """
    from fundoscope.bundles.read import load_network

    try:
        values = json.loads((folder / INDEX_FILE).read_text("utf-8"))
        content = (folder / NETWORK_FILE).read_bytes()
        own = values["weights"]
        centre, spread, weight = (
            (float(each[0]), float(each[1])) for each in (own["centre"], own["spread"], own["weight"])
        )
        weights = VascularWeights(centre, spread, weight, float(own["floor"]), str(own["fitted_on"]))
        references = {
            name: VascularReference(tuple(each["scores"]), each["photographs"], each["source"])
            for name, each in values["references"].items()
        }
        threshold, digest = float(values["threshold"]), str(values["network_sha256"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{folder}: the vascular index cannot be used ({error}). Reinstall fundoscope.") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise BundleError(f"{folder / NETWORK_FILE}: was changed since it was made. Reinstall fundoscope.")
    if camera and camera not in references:
        near = nearest(camera, references)
        raise UsageError(
            f"There is no reference of a camera '{camera}': {near} Leave --camera out to compare with all together."
        )
    session = load_network(content, str(folder / NETWORK_FILE), 1)
    return VascularIndex(session, threshold, weights, references, camera, digest)
