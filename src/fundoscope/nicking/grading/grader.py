"""The grader of nicking: photograph -> vessel maps -> crossings -> widths -> patches -> grades, without torch.

A patch file takes the same way from its patch on. One that cannot be read or graded is a row that says why. All cores
work on one photograph, so photographs are graded one after the other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from fundoscope.bundles.read import Runtime
from fundoscope.bundles.read_nicking import NickingBundle, open_nicking_bundle
from fundoscope.errors import BundleError
from fundoscope.findings import (
    NICKING_COLUMNS,
    PATCH_COLUMNS,
    BundleIdentity,
    GradedPhotograph,
    NickingFinding,
    PatchFinding,
    PhotographSource,
    Row,
    Sink,
    Status,
    join_remarks,
)
from fundoscope.imaging import Prepared, read
from fundoscope.imaging.quality import judge_quality
from fundoscope.imaging.sources import name_each
from fundoscope.nicking.grading.crossing_candidates import find_candidates
from fundoscope.nicking.grading.crossing_patches import KnownScale, crop_square, cut_crossing, map_known_patch
from fundoscope.nicking.grading.evidence import MEASURED_ONLY, PatchGrading, PhotographGrading
from fundoscope.nicking.grading.grades import PatchGrade, explain_row, grade_patches
from fundoscope.nicking.grading.measures import PhotographTable, measure_photograph
from fundoscope.nicking.grading.outputs import open_page
from fundoscope.nicking.grading.vessel_maps import map_photograph
from fundoscope.nicking.grading.widths import CrossingWidths, measure_patch, measure_with_model
from fundoscope.outputs import DICOM
from fundoscope.runs.engines import grade_isolated
from fundoscope.stopwatch import stage

AnyFinding = TypeVar("AnyFinding", NickingFinding, PatchFinding)


@dataclass(frozen=True)
class NickingGrader:
    """A verified bundle, ready to grade photographs of adults; a `Grader`.

    With `measures` the vessels around the disc are measured too; `mm_per_pixel`, of the file's pixels on the retina, gives
    their micrometres. With `dicom` a run also writes its answers to DICOM photographs as DICOM objects.
    """

    bundle: NickingBundle
    measures: bool = True
    mm_per_pixel: float | None = None
    dicom: bool = False

    name = "nicking grade"
    noun = "photograph"
    columns = NICKING_COLUMNS
    threads = 1

    @classmethod
    def open(
        cls,
        bundle: str | Path = "nicking",
        measures: bool = True,
        mm_per_pixel: float | None = None,
        dicom: bool = False,
        runtime: Runtime = "onnxruntime",
    ) -> NickingGrader:
        """The grader of a shipped bundle's name, or of a bundle's folder."""
        return cls(open_nicking_bundle(bundle, runtime=runtime), measures, mm_per_pixel, dicom)

    @property
    def files(self) -> tuple[str, ...]:
        """What its own sinks write."""
        return ("report.html", "photographs.csv", *([DICOM] if self.dicom else ()))

    @property
    def options(self) -> Mapping[str, Any]:
        """The scale and the runtime, which change the answers, and whether they are written as DICOM objects, too."""
        scale = {} if self.mm_per_pixel is None else {"mm_per_pixel": self.mm_per_pixel}
        runtime = {} if self.bundle.runtime == "onnxruntime" else {"runtime": self.bundle.runtime}
        return scale | ({"dicom": True} if self.dicom else {}) | runtime

    def grade(self, photographs: PhotographSource | Iterable[PhotographSource]) -> list[NickingFinding]:
        """Rows of all crossings of photographs, in their order: paths, bytes of files, open files, PIL images, arrays in RGB.

        Arrays are (rows, columns, 3), or many in one (n, rows, columns, 3). A generator is gone through as rows are made, and
        no picture is kept. A photograph that is refused or cannot be read has a row too; nothing is raised for it. Raises
        `TypeError` for what is no photograph.
        """
        findings: list[NickingFinding] = []
        grader = replace(self, measures=False)  # no row holds them
        for source, name in name_each(photographs):
            findings += cast(tuple[NickingFinding, ...], grade_isolated(grader, source, name).findings)
        return findings

    @property
    def identity(self) -> BundleIdentity:
        """Name, day and digest of the bundle."""
        card = self.bundle.card
        return BundleIdentity.from_card(card.name, card.created, card.model_dump_json())

    def grade_one(self, source: PhotographSource, name: str) -> GradedPhotograph:
        """The rows of one photograph, with its `PhotographGrading`."""
        grading = self.grade_photograph(source, name)
        return GradedPhotograph(grading.findings, grading)

    def failed(self, name: str, reason: str) -> GradedPhotograph:
        """The row of a photograph that could not be read or graded."""
        grading = PhotographGrading((NickingFinding(name, Status.FAILED, reason),))
        return GradedPhotograph(grading.findings, grading)

    def count(self, rows: Sequence[Row]) -> dict[str, int]:
        """Which end a photograph came to, its crossings, and its grades where the bundle grades."""
        crossings = [row for row in rows if row["crossing"] is not None]
        return _counts(rows[0]["status"], crossings, graded=self.bundle.card.grades is not None)

    def open_sinks(
        self, folder: Path, started: str, positions: Mapping[str, int], skipped: str = ""
    ) -> Mapping[str, Sink]:
        """`report.html` with its pictures, `photographs.csv`, and the DICOM answers where they are asked for."""
        page = open_page(self.bundle.card, "photograph", folder, started, positions, skipped, self.mm_per_pixel)
        sinks: dict[str, Sink] = {**page, "photographs.csv": PhotographTable(folder, positions, self.mm_per_pixel)}
        if self.dicom:
            from fundoscope.nicking.grading.dicom_answers import open_dicom_answers

            options = {} if self.mm_per_pixel is None else {"mm_per_pixel": self.mm_per_pixel}
            sinks[DICOM] = open_dicom_answers(self.bundle.card, self.identity, options, folder)
        return sinks

    def grade_photograph(self, source: PhotographSource, name: str) -> PhotographGrading:
        """The rows of one photograph, a row a crossing, and the evidence behind them.

        Raises `PhotographError` for what cannot be read.
        """
        photograph = Prepared.read(source, name)
        with stage("quality"):
            quality = judge_quality(photograph, "adult")
        if not quality.gradable:
            refused = NickingFinding(photograph.name, Status.REJECTED, join_remarks(*quality.reasons, *quality.remarks))
            return PhotographGrading((_with_remark(refused, photograph.photograph.remark),), photograph.pixels)

        card = self.bundle.card
        with stage("vessels"):
            mapped = map_photograph(photograph, self.bundle)
        with stage("crossings"):
            candidates = find_candidates(mapped.maps, mapped.artery_vein)
        with stage("widths"):
            crossings, calibre = measure_with_model(mapped, candidates, card.crossings)
        grades: list[PatchGrade] = []
        if card.grades is not None:
            with stage("patches"):
                patches = [cut_crossing(mapped, crossing) for crossing in crossings]
                grades = grade_patches(patches, [crossing.narrowing for crossing in crossings], self.bundle)

        rows = [
            _photograph_row(photograph.name, number, crossing, grades[number - 1] if grades else None)
            for number, crossing in enumerate(crossings, 1)
        ]
        rows = rows or [NickingFinding(photograph.name, Status.OK)]
        doubt = join_remarks(*quality.remarks)  # about every answer
        first, *others = [_with_remark(row, doubt) for row in rows]
        findings = (_with_remark(first, photograph.photograph.remark), *others)
        with stage("measures"):
            measures = measure_photograph(mapped, calibre) if self.measures else None
        return PhotographGrading(findings, photograph.pixels, mapped, tuple(crossings), tuple(grades), measures)

    def grade_patch(self, source: PhotographSource, name: str, known: KnownScale = KnownScale()) -> PatchGrading:
        """The row of one patch file, of whose scale so much is `known`, and the evidence behind it.

        Raises `PhotographError` for what cannot be read, and `BundleError` where the bundle holds no network that grades.
        """
        photograph = read(source, name)
        pixels = crop_square(photograph)
        maps, patch = map_known_patch(pixels, self.bundle.map_vessels, known)
        narrowing = measure_patch(pixels, maps, self.bundle.card.crossings, pixels.shape[0] / maps.shape[1])
        (grade,) = grade_patches([patch], [narrowing], self.bundle)
        sides = (None, None) if narrowing is None else map(_known, narrowing.sides)
        reason = explain_row(grade, narrowing)
        row = PatchFinding(name, Status.OK, reason, *sides, grade.probabilities, grade.grade)
        return PatchGrading(_with_remark(row, photograph.remark), pixels, narrowing, grade)


@dataclass(frozen=True)
class PatchGrader:
    """A `NickingGrader` of patch files, squares around a crossing; a `Grader`.

    `known` maps paths to what a table says of the scale of these files; of others the usual span is taken.

    Raises `BundleError` where the bundle holds no network that grades.
    """

    grader: NickingGrader
    known: Mapping[Path, KnownScale] = field(default_factory=dict)

    name = "nicking grade-patches"
    noun = "patch"
    columns = PATCH_COLUMNS
    files = ("report.html",)
    threads = 1

    @property
    def options(self) -> Mapping[str, Any]:
        """What a table says of the scale of patches changes their answers."""
        known = sorted((str(path), asdict(scale)) for path, scale in self.known.items())
        return {"scales": hashlib.sha256(repr(known).encode()).hexdigest()[:16]} if known else {}

    def __post_init__(self) -> None:
        card = self.grader.bundle.card
        if card.grades is None:
            raise BundleError(
                f"{card.name}: this bundle holds no network that grades. Give one that does to --bundle; "
                "whole photographs are measured all the same: fundoscope nicking grade"
            )

    @property
    def identity(self) -> BundleIdentity:
        """Name, day and digest of the bundle."""
        return self.grader.identity

    def grade_one(self, source: PhotographSource, name: str) -> GradedPhotograph:
        """The row of one patch, with its `PatchGrading`."""
        known = self.known.get(source) if isinstance(source, Path) else None
        grading = self.grader.grade_patch(source, name, known or KnownScale())
        return GradedPhotograph(grading.findings, grading)

    def failed(self, name: str, reason: str) -> GradedPhotograph:
        """The row of a patch that could not be read or graded."""
        grading = PatchGrading(PatchFinding(name, Status.FAILED, reason))
        return GradedPhotograph(grading.findings, grading)

    def count(self, rows: Sequence[Row]) -> dict[str, int]:
        """Which end a patch came to, and its grade."""
        return _counts(rows[0]["status"], [row for row in rows if row["status"] == Status.OK], graded=True)

    def open_sinks(
        self, folder: Path, started: str, positions: Mapping[str, int], skipped: str = ""
    ) -> Mapping[str, Sink]:
        """`report.html` with its pictures."""
        return open_page(self.grader.bundle.card, "patch", folder, started, positions, skipped)


def _with_remark(finding: AnyFinding, remark: str) -> AnyFinding:
    """The finding with what its reader remarked about the file behind its reason."""
    return replace(finding, reason=join_remarks(finding.reason, remark)) if remark else finding


def _counts(status: str, crossings: Sequence[Row], graded: bool) -> dict[str, int]:
    counts = {name.value: int(status == name) for name in Status} | {"crossings": len(crossings)}
    if graded:
        counts |= {f"grade {grade}": sum(row["grade"] == grade for row in crossings) for grade in range(4)}
    return counts


def _photograph_row(name: str, number: int, crossing: CrossingWidths, grade: PatchGrade | None) -> NickingFinding:
    narrowing = crossing.narrowing
    reason = crossing.reason or MEASURED_ONLY if grade is None else explain_row(grade, narrowing)
    measured = (None,) * 4
    if narrowing is not None:
        artery, vein = _known(narrowing.artery_width), _known(narrowing.vein_width)
        measured = (artery, vein, *map(_known, narrowing.sides))
    return NickingFinding(
        name, Status.OK, reason, number, float(crossing.place[0]), float(crossing.place[1]), crossing.confidence,
        *measured, None if grade is None else grade.probabilities, None if grade is None else grade.grade,
    )  # fmt: skip


def _known(value: float) -> float | None:
    """A measurement, or None where it is nan: what was not measured is blank, in Python as in a table."""
    return float(value) if math.isfinite(value) else None
