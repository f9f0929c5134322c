"""Do the photographs of a run look like those that the bundle learnt from? Counted photograph by photograph, without labels.

The reference lies in the bundle (`likeness.json`). Each photograph's distance goes to a small file beside the journal, so that
a run that goes on counts those that were finished before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from fundoscope.bundles import Bundle
from fundoscope.bundles.card import Card
from fundoscope.bundles.folder import rewrite_card
from fundoscope.bundles.read import checked_bytes, open_bundle
from fundoscope.errors import BundleError
from fundoscope.evaluation.likeness import (
    LIKENESS_FAMILIES,
    NEAR,
    LikenessReference,
    LikenessVerdict,
    fit_likeness,
    judge_beyond,
)
from fundoscope.findings import GradedPhotograph, Mention, Row, Status
from fundoscope.imaging.quality import judge_quality
from fundoscope.outputs import STATE
from fundoscope.runs.sinks import GrowingFile

LIKENESS_FILE = "likeness.json"
TALLY_FILE = f"{STATE}/likeness.txt"

_FAMILIES = list(LIKENESS_FAMILIES)
_MEASURED = f"{', '.join(_FAMILIES[:-1])} and {_FAMILIES[-1]}"
UNKNOWN = "Whether these photographs look like those that the bundle learnt from is not known: it holds no reference."


def read_likeness(folder: Path, card: Card) -> LikenessReference | None:
    """The reference of a bundle's training photographs; None where it holds none. `BundleError` where it cannot be used."""
    if LIKENESS_FILE not in card.files:
        return None
    try:
        return LikenessReference.from_json(json.loads(checked_bytes(folder, LIKENESS_FILE, card)))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{folder / LIKENESS_FILE} cannot be used ({error}). Upgrade fundoscope, or make the bundle anew."
        ) from error


def write_likeness(folder: Path, paths: Iterable[Path], groups: Sequence[object] | None = None) -> Card:
    """Add the reference of the photographs that a bundle learnt from, or replace it; its networks stay. Returns the card.

    Photographs are read as screening reads them, one at a time; `groups` name those that show one eye or infant. Raises
    `ControlError` for too few, `PhotographError` for one that cannot be read.
    """
    bundle = open_bundle(folder)
    seen = [_look(bundle, path) for path in paths]
    graded = [called for _, _, called in seen if called is not None]
    reference = fit_likeness(
        [measures for measures, _, _ in seen], groups,
        refused=round(1 - len(graded) / len(seen), 4), called=round(float(np.mean(graded)), 4) if graded else math.nan,
        quality=round(float(np.median([quality for _, quality, _ in seen])), 4),
    )  # fmt: skip
    return rewrite_card(folder, {}, added={LIKENESS_FILE: json.dumps(reference.to_json()) + "\n"})


def _look(bundle: Bundle, path: Path) -> tuple[dict[str, float], float, bool | None]:
    """Measurements and quality of one photograph, and whether the bundle calls it ROP; None where screening refuses it."""
    standard = bundle.card.standard
    prepared = standard.prepare(path, path.name)
    verdict = judge_quality(prepared, "infant")
    if not verdict.gradable:
        return verdict.measures, verdict.score, None
    logits, _ = bundle.run(standard.tensor(standard.enhance(standard.square(prepared)))[None])
    return verdict.measures, verdict.score, bundle.decide(float(bundle.probabilities(logits)[0]))


class LikenessTally:
    """The sink that counts photographs beyond the limit: a line a photograph, its distance or a blank, in `TALLY_FILE`.

    `threshold_of` names the cohort on which a recalibrated bundle's threshold was set; blank for another.
    """

    def __init__(
        self, path: Path, reference: LikenessReference | None, position: int | None = None, threshold_of: str = ""
    ) -> None:
        self._reference = reference
        self._threshold_of = threshold_of
        self._n = self._beyond = self._refused = self._graded = self._called = 0
        earlier = path.read_text("ascii")[:position].splitlines() if position else []
        self._earlier = iter(earlier)
        self._file = GrowingFile(path, position)

    @property
    def position(self) -> int:
        """Length in bytes of the lines of finished photographs."""
        return self._file.position

    def add(self, number: int, mention: Mention, graded: GradedPhotograph, rows: Sequence[Row]) -> Sequence[str]:
        """Count one photograph."""
        distance = cast("float | None", graded.evidence.distance)
        self._file.write(f"{'' if distance is None else f'{distance:.6g}'}\n".encode("ascii"))
        self._count(distance, rows)
        return ()

    def recount(self, mention: Mention, rows: Sequence[Row]) -> None:
        """Count a photograph that an earlier run has measured."""
        line = next(self._earlier, "")
        self._count(float(line) if line else None, rows)

    def close(self, whole: bool) -> None:
        """Close the file."""
        self._file.close()

    def _count(self, distance: float | None, rows: Sequence[Row]) -> None:
        (row,) = rows
        self._refused += row["status"] == Status.REJECTED
        self._graded += row["status"] == Status.OK
        self._called += row["rop"] == "yes"
        if distance is not None and self._reference is not None:
            self._n += 1
            self._beyond += distance > self._reference.limit

    @property
    def verdict(self) -> LikenessVerdict:
        """The verdict on the photographs counted so far."""
        return judge_beyond(self._n, self._beyond)

    @property
    def warnings(self) -> Sequence[str]:
        """What is to be said before anything else; empty where the photographs do not look unlike."""
        return [self.describe()] if self.verdict.unlike else []

    def describe(self) -> str:
        """Whether the photographs look like those that the bundle learnt from, in a few sentences; blank without any."""
        reference, verdict = self._reference, self.verdict
        if reference is None:
            return UNKNOWN
        if not verdict.n:
            return ""
        found = (
            f"that the bundle learnt from: {verdict.beyond} of {verdict.n} ({100 * verdict.share:.0f} %) are further away from "
            f"them, in {_MEASURED}, than {100 * NEAR:g} % of the {reference.n} are from each other"
        )
        facts = self._facts(reference)
        if verdict.unlike:
            return f"These photographs look unlike the {reference.n} {found}. {self._advice()} {facts}"
        return f"These photographs look like the {reference.n} {found}; {100 * (1 - NEAR):.0f} % are expected. {facts}"

    def _advice(self) -> str:
        if self._threshold_of:
            return f"Its threshold was set anew on {self._threshold_of}, and holds for photographs that were taken as those."
        return (
            "The bundle's figures and threshold may not hold here: label some, and run fundoscope rop evaluate "
            "and rop recalibrate."
        )

    def _facts(self, reference: LikenessReference) -> str:
        there = [f"{round(reference.refused * reference.n)} of {reference.n} refused"]
        here = [f"{self._refused} of {self._refused + self._graded} refused"]
        if self._graded and not math.isnan(reference.called):
            here.append(
                f"{100 * self._called / self._graded:.0f} % of the graded called ROP, which depends on how many are ill"
            )
            there.append(f"{100 * reference.called:.0f} % called")
        return f"Here {' and '.join(here)}; there {' and '.join(there)}."
