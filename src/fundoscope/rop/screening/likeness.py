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
from fundoscope.languages import kept_text
from fundoscope.outputs import STATE
from fundoscope.runs.sinks import GrowingFile

LIKENESS_FILE = "likeness.json"
TALLY_FILE = f"{STATE}/likeness.txt"

_FAMILIES = list(LIKENESS_FAMILIES)
_MEASURED = f"{', '.join(_FAMILIES[:-1])} and {_FAMILIES[-1]}"
UNLIKE = kept_text(
    "These photographs look unlike the {n} that the bundle learnt from: {beyond} of {all} ({share} %) are further away from them, "
    "in {measured}, than {near} % of the {n_again} are from each other."
)
LIKE = kept_text(
    "These photographs look like the {n} that the bundle learnt from: {beyond} of {all} ({share} %) are further away from them, "
    "in {measured}, than {near} % of the {n_again} are from each other; {expected} % are expected."
)
THRESHOLD_OF = kept_text("Its threshold was set anew on {data}, and holds for photographs that were taken as those.")
ADVICE = kept_text(
    "The bundle's figures and threshold may not hold here: label some, and run fundoscope rop evaluate and rop recalibrate."
)
FACTS = kept_text("Here {here}; there {there}.")
REFUSED = kept_text("{refused} of {all} refused")
REFUSED_AND_CALLED = kept_text("{refused} of {all} refused and {called} % called")
CALLED = kept_text(
    "{refused} of {all} refused and {called} % of the graded called ROP, which depends on how many are ill"
)
UNKNOWN = kept_text(
    "Whether these photographs look like those that the bundle learnt from is not known: it holds no reference."
)


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
        sentence = (UNLIKE if verdict.unlike else LIKE).format(
            n=reference.n, beyond=verdict.beyond, all=verdict.n, share=round(100 * verdict.share), measured=_MEASURED,
            near=f"{100 * NEAR:g}", n_again=reference.n, expected=round(100 * (1 - NEAR)),
        )  # fmt: skip
        advice = THRESHOLD_OF.format(data=self._threshold_of) if self._threshold_of else ADVICE
        return " ".join([sentence, *([advice] if verdict.unlike else []), self._facts(reference)])

    def _facts(self, reference: LikenessReference) -> str:
        here, there = REFUSED, REFUSED
        called_here = called_there = 0
        if self._graded and not math.isnan(reference.called):
            here, there = CALLED, REFUSED_AND_CALLED
            called_here, called_there = round(100 * self._called / self._graded), round(100 * reference.called)
        refused = round(reference.refused * reference.n)
        return FACTS.format(
            here=here.format(refused=self._refused, all=self._refused + self._graded, called=called_here),
            there=there.format(refused=refused, all=reference.n, called=called_there),
        )
