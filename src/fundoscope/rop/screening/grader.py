"""`RopGrader`: screening from Python, `fundoscope.load("rop").screen(paths | arrays)`, and for command line and runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, cast

from fundoscope.bundles import Bundle, open_bundle
from fundoscope.bundles.card import Stage
from fundoscope.bundles.read import Runtime
from fundoscope.evaluation.likeness import LikenessReference
from fundoscope.findings import (
    ROP_COLUMNS,
    VASCULAR_COLUMNS,
    BundleIdentity,
    GradedPhotograph,
    PhotographSource,
    RopFinding,
    Row,
    Sink,
    Status,
    VascularFinding,
)
from fundoscope.imaging.enhance import build_tables
from fundoscope.imaging.sources import name_each
from fundoscope.outputs import DICOM
from fundoscope.processors import count_processors
from fundoscope.rop.screening.likeness import read_likeness
from fundoscope.rop.screening.outputs import open_sinks
from fundoscope.rop.screening.screener import RopEvidence, screen_photograph
from fundoscope.runs.engines import grade_isolated, map_in_order

if TYPE_CHECKING:
    from fundoscope.rop.vascular import VascularIndex


@dataclass(frozen=True)
class RopGrader:
    """A verified bundle, ready to screen infants' photographs; a `Grader`.

    Answers on treatment are given where ROP is suspected and the bundle has learnt them, with `allow_simulated` also when it
    has learnt them from simulated eyes only. `threads` photographs are worked on at once, by default one more than there
    are processors, at most five: while one thread waits for Python's lock, another decodes. With `dicom` a run also writes its
    answers to DICOM photographs as DICOM objects. With `vascular` the vessels around the disc are measured, too, for a second witness.
    """

    bundle: Bundle
    allow_simulated: bool = False
    threads: int = min(4, count_processors()) + 1
    dicom: bool = False
    vascular: VascularIndex | None = None

    name = "rop screen"
    noun = "photograph"

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        allow_simulated: bool = False,
        dicom: bool = False,
        runtime: Runtime = "onnxruntime",
        *,
        vessels: bool = False,
        camera: str = "",
    ) -> RopGrader:
        """The grader of a shipped bundle's name, or of a bundle's folder.

        With `vessels` it gives the vascular index, among normal photographs of the `camera`; blank for an unknown one.
        """
        Thread(target=build_tables, daemon=True).start()  # while the bundle is verified and loaded
        vascular: VascularIndex | None = None
        if vessels:
            from fundoscope.rop.vascular import open_vascular_index  # half a second of imports

            vascular = open_vascular_index(camera)
        return cls(open_bundle(bundle, runtime=runtime), allow_simulated, dicom=dicom, vascular=vascular)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of its rows; those of the vascular index at the end, where it is asked for."""
        return ROP_COLUMNS if self.vascular is None else (*ROP_COLUMNS, *VASCULAR_COLUMNS)

    @property
    def files(self) -> tuple[str, ...]:
        """What its own sinks write."""
        return ("eyes.csv", "report.html", DICOM) if self.dicom else ("eyes.csv", "report.html")

    @property
    def identity(self) -> BundleIdentity:
        """Name, day and digest of the bundle."""
        card = self.bundle.card
        return BundleIdentity.from_card(card.name, card.created, card.model_dump_json())

    @property
    def options(self) -> Mapping[str, bool | str]:
        """Options that change the answers, or what is written."""
        runtime, vessels = self.bundle.runtime, self.vascular
        return {
            "allow_simulated": self.allow_simulated,
            **({"dicom": True} if self.dicom else {}),
            **({} if runtime == "onnxruntime" else {"runtime": runtime}),
            **({} if vessels is None else {"vessels": vessels.digest[:16], "camera": vessels.camera}),
        }

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against using the bundle, a sentence each; of treatment only where that question is answered."""
        doubts = self.bundle.card.doubts
        return tuple(doubts[question] for question in doubts if question == "rop" or self.second is not None)

    @property
    def second(self) -> Stage | None:
        """The stage that tells whether treatment is required; None where the bundle has none that may be shown."""
        shown = {"real": True, "simulated": self.allow_simulated}
        return self.bundle.second if shown.get(self.bundle.card.stage2, False) else None

    @cached_property
    def likeness(self) -> LikenessReference | None:
        """What photographs are compared with that the bundle learnt from; None where it holds no reference of them."""
        return read_likeness(self.bundle.folder, self.bundle.card)

    def screen(self, photographs: PhotographSource | Iterable[PhotographSource]) -> list[RopFinding]:
        """One finding a photograph, in their order: paths, bytes of files, open files, PIL images, or arrays in RGB.

        Arrays are (rows, columns, 3), or many in one (n, rows, columns, 3). A generator is gone through as answers are made,
        and no picture is kept. A photograph that is refused or cannot be read is a finding too; nothing is raised for it.
        Raises `TypeError` for what is no photograph.
        """
        return [cast(RopFinding, graded.findings[0]) for graded in self.screen_with_evidence(photographs)]

    def screen_with_evidence(
        self, photographs: PhotographSource | Iterable[PhotographSource]
    ) -> Iterator[GradedPhotograph]:
        """The same, a photograph at a time, with the standard picture and the class activation map of each finding."""
        return map_in_order(lambda pair: grade_isolated(self, *pair), name_each(photographs), self.threads)

    def grade_one(self, source: PhotographSource, name: str) -> GradedPhotograph:
        """The finding of one photograph, with `RopEvidence`; raises `PhotographError` for what cannot be read."""
        return screen_photograph(source, name, self.bundle, self.second, self.likeness, self.vascular)

    def failed(self, name: str, reason: str) -> GradedPhotograph:
        """The row of a photograph that could not be read or graded."""
        vascular = None if self.vascular is None else VascularFinding()
        return GradedPhotograph((RopFinding(name, Status.FAILED, reason, vascular=vascular),), RopEvidence())

    def count(self, rows: Sequence[Row]) -> dict[str, int]:
        """Which end a photograph came to: suspected, nothing seen, rejected, failed."""
        ends = ("ROP suspected", "no ROP seen", "rejected", "failed")
        (row,) = rows
        end = ends[row["rop"] == "no"] if row["status"] == "ok" else row["status"]
        return {name: int(name == end) for name in ends}

    def open_sinks(
        self, folder: Path, started: str, positions: Mapping[str, int], skipped: str = ""
    ) -> Mapping[str, Sink]:
        """`eyes.csv`, `report.html` with its pictures, and the DICOM answers where they are asked for."""
        sinks = open_sinks(self.bundle, self.second, self.likeness, folder, started, positions, skipped, self.vascular)
        if self.dicom:
            from fundoscope.rop.screening.dicom_answers import open_dicom_answers

            options = {"allow_simulated": self.allow_simulated}
            sinks[DICOM] = open_dicom_answers(self.bundle, self.identity, options, folder)
        return sinks
