"""`audit`: what is wrong with a cohort before anything is learnt from it, and with its folds.

Duplicates and second views of one eye inflate every figure once they stand on two sides of a split; one
picture under two labels makes a part of them unlearnable.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fundoscope.cohort.fingerprints import TURNS, Fingerprint, fingerprints
from fundoscope.cohort.folds import Folds
from fundoscope.cohort.near_duplicates import MatchedPair, find_near_duplicates
from fundoscope.cohort.second_views import find_second_views
from fundoscope.cohort.table import Cohort, CohortRow
from fundoscope.errors import PhotographError, UsageError

Progress = Callable[[str, int, int], None]


#: Similarity from which two views speak against the infants that the table names: of 57 624 pairs that cannot
#: be one eye the likest reach .49, and .60 is expected among the two million of 2000 photographs.
_SURE = 0.62


class ProblemKind(StrEnum):
    """What can be wrong, the gravest first."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    TWO_LABELS = "one picture under two labels"
    TWO_INFANTS = "one eye under two infants"
    INFANT_SPLIT = "infant on two sides of a split"
    LIKENESS_SPLIT = "one eye on two sides of a split"
    SAME_FILE = "same file"
    SAME_PIXELS = "same pixels"
    NEAR_DUPLICATE = "near-duplicate"
    SAME_EYE = "same eye, moved"


@dataclass(frozen=True, slots=True)
class AuditProblem:
    """One thing found.

    `rows` are the photographs concerned, from 0, and `paths` where they lie; `similarity` is 0 to 1 and
    `turn` what brings the second photograph to the first, for pairs; `detail` says the rest in words.
    """

    kind: ProblemKind
    rows: tuple[int, ...]
    paths: tuple[Path, ...]
    similarity: float | None = None
    turn: int = 0
    detail: str = ""

    @property
    def turn_in_words(self) -> str:
        """How the second photograph is turned to match the first."""
        return TURNS[self.turn]


@dataclass(frozen=True, slots=True)
class SameEyePair:
    """Two photographs of one eye, by row, the lower first; `kind` is one of the last four of `Kind`."""

    kind: ProblemKind
    first: int
    second: int
    turn: int = 0
    similarity: float = 1.0


@dataclass(frozen=True)
class Audit:
    """What was found in a cohort: `problems`, the gravest first, and all `likenesses`, even harmless ones.

    Several views of one infant's eye are no problem: they are the infant's, and stay together.
    """

    cohort: Cohort
    problems: tuple[AuditProblem, ...]
    likenesses: tuple[SameEyePair, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0 when clean, 1 when anything was found."""
        return 0 if self.clean else 1

    @property
    def paths(self) -> list[Path]:
        """The photographs concerned, each once, in the table's order."""
        return [self.cohort[row].path for row in sorted({row for p in self.problems for row in p.rows})]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Rows that show one eye and must never be parted."""
        return [(likeness.first, likeness.second) for likeness in self.likenesses]

    @property
    def counts(self) -> dict[ProblemKind, int]:
        """How many problems of each kind, the gravest first, kinds without any left out."""
        counts = {kind: sum(problem.kind is kind for problem in self.problems) for kind in ProblemKind}
        return {kind: n for kind, n in counts.items() if n}


def audit(cohort: Cohort, folds: Folds | None = None, progress: Progress | None = None) -> Audit:
    """Look for missing and unreadable photographs, duplicates, second views, and what they break.

    With `folds` the splits are checked too. `progress(stage, done, all)` is called as the work goes on, which
    takes about 25 ms a photograph and 0.1 ms a pair.
    """
    if folds is not None and len(folds.photographs) != len(cohort):
        raise UsageError(f"{cohort.name}: the folds are of another cohort. Read them with `Folds.read`.")
    broken, prints = _read_all(cohort, progress)
    likenesses = _likenesses(cohort, prints, progress)
    problems = broken + _of_pairs(cohort, likenesses, folds)
    if folds is not None:
        problems += _parted_infants(cohort, folds)
    order = list(ProblemKind)
    problems.sort(key=lambda problem: (order.index(problem.kind), problem.rows))
    return Audit(cohort, tuple(problems), tuple(likenesses))


def _read_all(cohort: Cohort, progress: Progress | None) -> tuple[list[AuditProblem], dict[int, Fingerprint]]:
    """What cannot be read, and the fingerprints of the rest, one for each different file."""
    first: dict[str, int] = {}
    for row, digest in enumerate(cohort.digests):
        first.setdefault(digest or f"row {row}", row)
    rows = list(first.values())
    answers = fingerprints([cohort[row].path for row in rows], _stage("reading", progress))
    by_digest = {cohort.digests[row]: answer for row, answer in zip(rows, answers, strict=True)}
    errors = {row: answer for row, answer in zip(rows, answers, strict=True) if isinstance(answer, PhotographError)}
    for row, digest in enumerate(cohort.digests):  # the copies of a broken file are broken too
        if digest and isinstance(answer := by_digest[digest], PhotographError):
            errors[row] = answer
    problems = [_unread(cohort[row], error) for row, error in errors.items()]
    prints = {row: a for row, a in zip(rows, answers, strict=True) if isinstance(a, Fingerprint)}
    return problems, prints


def _unread(record: CohortRow, error: PhotographError) -> AuditProblem:
    kind = ProblemKind.UNREADABLE if record.path.exists() else ProblemKind.MISSING
    return AuditProblem(kind, (record.row,), (record.path,), detail=error.cause)


def _likenesses(cohort: Cohort, prints: dict[int, Fingerprint], progress: Progress | None) -> list[SameEyePair]:
    """All pairs that show one eye; identical ones are paired with the first, which alone is compared."""
    found = [SameEyePair(ProblemKind.SAME_FILE, a, b) for a, b in _repeats(enumerate(cohort.digests))]
    equal = _repeats((row, prints[row].pixels) for row in prints)
    found += [SameEyePair(ProblemKind.SAME_PIXELS, a, b) for a, b in equal]
    again = {b for _, b in equal}
    rows = [row for row in prints if row not in again]
    some = [prints[row] for row in rows]
    if len(some) > 1:
        copies = {(m.first, m.second): m for m in find_near_duplicates(some)}
        views = [m for m in find_second_views(some, _stage("comparing", progress)) if _believed(m, cohort, rows)]
        matches = [*copies.values(), *(m for m in views if (m.first, m.second) not in copies)]
        kinds = {"near-duplicate": ProblemKind.NEAR_DUPLICATE, "same eye": ProblemKind.SAME_EYE}
        found += [SameEyePair(kinds[m.kind], rows[m.first], rows[m.second], m.turn, m.similarity) for m in matches]
    return sorted(found, key=lambda likeness: (likeness.first, likeness.second))


def _believed(view: MatchedPair, cohort: Cohort, rows: list[int]) -> bool:
    """Whether a second view may stand: against two different infants in the table it must be beyond doubt."""
    return cohort[rows[view.first]].infant == cohort[rows[view.second]].infant or view.similarity >= _SURE


def _repeats(values: Iterable[tuple[int, str]]) -> list[tuple[int, int]]:
    """Each row paired with the first row of the same value; blank ones are not paired."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(value, row), row) for row, value in values if value]
    return [(a, b) for a, b in pairs if a != b]


def _of_pairs(cohort: Cohort, likenesses: list[SameEyePair], folds: Folds | None) -> list[AuditProblem]:
    problems = []
    for likeness in likenesses:
        a, b = cohort[likeness.first], cohort[likeness.second]
        for kind, detail in _wrong_with(likeness, a, b, folds):
            problems.append(
                AuditProblem(kind, (a.row, b.row), (a.path, b.path), likeness.similarity, likeness.turn, detail)
            )
    return problems


def _wrong_with(
    likeness: SameEyePair, a: CohortRow, b: CohortRow, folds: Folds | None
) -> Iterable[tuple[ProblemKind, str]]:
    same_infant = a.infant is not None and a.infant == b.infant
    copy = likeness.kind is not ProblemKind.SAME_EYE
    if copy or not same_infant:
        yield likeness.kind, "listed twice" if a.path == b.path else ""
    if copy and a.label != b.label:
        yield ProblemKind.TWO_LABELS, f"{a.label} and {b.label} ({likeness.kind})"
    elif (
        copy
        and a.treatment_requiring != b.treatment_requiring
        and None
        not in (
            a.treatment_requiring,
            b.treatment_requiring,
        )
    ):
        yield ProblemKind.TWO_LABELS, f"treatment-requiring in one row, not in the other ({likeness.kind})"
    if a.infant != b.infant:
        yield ProblemKind.TWO_INFANTS, f"infants {a.infant} and {b.infant} ({likeness.kind})"
    if folds is not None and (sides := _sides(folds, (a.row, b.row))):
        yield ProblemKind.LIKENESS_SPLIT, f"{sides} ({likeness.kind})"


def _sides(folds: Folds, rows: tuple[int, ...]) -> str:
    """The folds that part these rows, in words; blank when none does."""
    parted = []
    for fold in folds:
        parts = {fold.part_of(row) for row in rows}
        if len(parts) > 1:
            parted.append(f"fold {fold.number}: {' and '.join(sorted(parts))}")
    return "; ".join(parted)


def _parted_infants(cohort: Cohort, folds: Folds) -> list[AuditProblem]:
    rows: dict[str, list[int]] = defaultdict(list)
    for record in cohort:
        if record.infant is not None:
            rows[record.infant].append(record.row)
    return [
        AuditProblem(
            ProblemKind.INFANT_SPLIT,
            tuple(own),
            tuple(cohort[row].path for row in own),
            detail=f"infant {infant}, {sides}",
        )
        for infant, own in rows.items()
        if (sides := _sides(folds, tuple(own)))
    ]


def _stage(name: str, progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, n: progress(name, done, n)
