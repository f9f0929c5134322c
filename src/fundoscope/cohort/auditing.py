"""The audit of a cohort: what is wrong with its photographs, labels, infants and folds, before anything is learnt from it.

Duplicates and second views of one eye inflate every figure once they stand on two sides of a split; one picture under two
labels teaches nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fundoscope.cohort.fingerprints import Fingerprint, fingerprints
from fundoscope.cohort.folds import Folds
from fundoscope.cohort.near_duplicates import find_near_duplicates
from fundoscope.cohort.problems import AuditProblem, ProblemKind, SameEyePair
from fundoscope.cohort.second_views import find_second_views
from fundoscope.cohort.spellings import describe_spellings
from fundoscope.cohort.table import Cohort, CohortRow
from fundoscope.errors import PhotographError, UsageError

Progress = Callable[[str, int, int], None]

#: Similarity from which two views are believed to show one eye although the table names two infants: of 57 624 pairs that
#: cannot be one eye the most similar reach .49, and .60 is expected among the two million pairs of 2000 photographs.
_SURE = 0.62


@dataclass(frozen=True)
class Audit:
    """What was found in a cohort: `problems`, the gravest first, and all `pairs` that show one eye, even harmless ones.

    `prints` are the fingerprints of the photographs by row, of equal files the first alone. Several views of one infant's eye are no problem: they are the infant's, and stay together.
    """

    cohort: Cohort
    problems: tuple[AuditProblem, ...]
    pairs: tuple[SameEyePair, ...]
    prints: Mapping[int, Fingerprint] = field(default_factory=dict, repr=False, compare=False)

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
    def counts(self) -> dict[ProblemKind, int]:
        """How many problems of each kind, the gravest first, kinds without any left out."""
        counts = {kind: sum(problem.kind is kind for problem in self.problems) for kind in ProblemKind}
        return {kind: n for kind, n in counts.items() if n}


def audit(cohort: Cohort, folds: Folds | None = None, progress: Progress | None = None) -> Audit:
    """Find missing and unreadable photographs, duplicates, second views of an eye, and what they contradict.

    With `folds` the splits are checked too. `progress(stage, done, all)` is called as the work goes on, which takes about
    25 ms a photograph and 0.1 ms a pair. Raises `UsageError` for folds of another cohort.
    """
    if folds is not None and len(folds.photographs) != len(cohort):
        raise UsageError(f"{cohort.name}: the folds are of another cohort. Read them with `Folds.read`.")
    unread, prints = _read_photographs(cohort, progress)
    pairs = _find_pairs(cohort, prints, progress)
    problems = unread + _check_spellings(cohort) + _check_pairs(cohort, pairs, folds)
    if folds is not None:
        problems += _check_infants(cohort, folds)
    order = list(ProblemKind)
    problems.sort(key=lambda problem: (order.index(problem.kind), problem.rows))
    return Audit(cohort, tuple(problems), tuple(pairs), prints)


def _read_photographs(cohort: Cohort, progress: Progress | None) -> tuple[list[AuditProblem], dict[int, Fingerprint]]:
    """What cannot be read, and by row the fingerprints of the rest, one for each different file."""
    first: dict[str, int] = {}
    for row, digest in enumerate(cohort.digests):
        first.setdefault(digest or f"row {row}", row)
    rows = list(first.values())
    found = dict(zip(rows, fingerprints([cohort[row].path for row in rows], _stage("reading", progress)), strict=True))
    prints = {row: answer for row, answer in found.items() if isinstance(answer, Fingerprint)}
    problems = []
    for row, digest in enumerate(cohort.digests):
        answer = found[first[digest or f"row {row}"]]  # the copies of a broken file are broken too
        if isinstance(answer, PhotographError):
            path = cohort[row].path
            kind = ProblemKind.UNREADABLE if path.exists() else ProblemKind.MISSING
            problems.append(AuditProblem(kind, (row,), (path,), detail=answer.cause))
    return problems, prints


def _find_pairs(cohort: Cohort, prints: dict[int, Fingerprint], progress: Progress | None) -> list[SameEyePair]:
    """All pairs that show one eye; identical photographs are paired with the first, which alone is compared with others."""
    found = [SameEyePair(ProblemKind.SAME_FILE, a, b) for a, b in _repeats(enumerate(cohort.digests))]
    equal = _repeats((row, prints[row].pixels) for row in prints)
    found += [SameEyePair(ProblemKind.SAME_PIXELS, a, b) for a, b in equal]
    repeated = {b for _, b in equal}
    rows = [row for row in prints if row not in repeated]
    compared = [prints[row] for row in rows]
    if len(compared) > 1:
        copies = {(m.first, m.second): m for m in find_near_duplicates(compared)}
        for match in copies.values():
            found.append(replace(match, first=rows[match.first], second=rows[match.second]))
        for match in find_second_views(compared, _stage("comparing", progress)):
            a, b = rows[match.first], rows[match.second]
            believed = cohort[a].infant == cohort[b].infant or match.similarity >= _SURE
            if believed and (match.first, match.second) not in copies:
                found.append(replace(match, first=a, second=b))
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def _repeats(values: Iterable[tuple[int, str]]) -> list[tuple[int, int]]:
    """Each row paired with the first row of the same value; blank ones are not paired."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(value, row), row) for row, value in values if value]
    return [(a, b) for a, b in pairs if a != b]


def _check_pairs(cohort: Cohort, pairs: list[SameEyePair], folds: Folds | None) -> list[AuditProblem]:
    """What is wrong with the rows of each pair."""
    problems = []
    for pair in pairs:
        a, b = cohort[pair.first], cohort[pair.second]
        for kind, detail in _contradictions(pair, a, b, folds):
            problems.append(AuditProblem(kind, (a.row, b.row), (a.path, b.path), pair.similarity, pair.turn, detail))
    return problems


def _contradictions(
    pair: SameEyePair, a: CohortRow, b: CohortRow, folds: Folds | None
) -> Iterator[tuple[ProblemKind, str]]:
    """What two rows of one eye say that cannot both be right, in words."""
    same_infant = a.infant is not None and a.infant == b.infant
    copy = pair.kind is not ProblemKind.SAME_EYE
    treatments = {a.treatment_requiring, b.treatment_requiring}
    if copy or not same_infant:
        yield pair.kind, "listed twice" if a.path == b.path else ""
    if copy and a.label != b.label:
        yield ProblemKind.TWO_LABELS, f"{a.label} and {b.label} ({pair.kind})"
    elif copy and treatments == {True, False}:
        yield ProblemKind.TWO_LABELS, f"treatment-requiring in one row, not in the other ({pair.kind})"
    if a.infant != b.infant:
        yield ProblemKind.TWO_INFANTS, f"infants {a.infant} and {b.infant} ({pair.kind})"
    if folds is not None and (parts := _parts_in_words(folds, (a.row, b.row))):
        yield ProblemKind.LIKENESS_SPLIT, f"{parts} ({pair.kind})"


def _check_spellings(cohort: Cohort) -> list[AuditProblem]:
    """Infants, and exams of one infant, that are written in two ways."""
    problems = []
    for noun, spellings in cohort.two_spellings():
        kind = ProblemKind.TWO_SPELLINGS if noun == "infant" else ProblemKind.TWO_EXAM_SPELLINGS
        concerned = tuple(sorted(row for rows in spellings.values() for row in rows))
        detail = describe_spellings(noun, spellings, {row: cohort[row].line for row in concerned})
        paths = tuple(cohort[row].path for row in concerned)
        problems.append(AuditProblem(kind, concerned, paths, detail=detail))
    return problems


def _check_infants(cohort: Cohort, folds: Folds) -> list[AuditProblem]:
    """Infants whose photographs stand in several parts of a fold."""
    rows: dict[str, list[int]] = defaultdict(list)
    for record in cohort:
        if record.infant is not None:
            rows[record.infant].append(record.row)
    problems = []
    for infant, own in rows.items():
        if parts := _parts_in_words(folds, own):
            paths = tuple(cohort[row].path for row in own)
            detail = f"infant {infant}, {parts}"
            problems.append(AuditProblem(ProblemKind.INFANT_SPLIT, tuple(own), paths, detail=detail))
    return problems


def _parts_in_words(folds: Folds, rows: Iterable[int]) -> str:
    """The folds in which these rows stand in different parts, in words; blank when there is none."""
    rows = list(rows)
    divided = []
    for fold in folds:
        parts = {fold.part_of(row) for row in rows}
        if len(parts) > 1:
            divided.append(f"fold {fold.number}: {' and '.join(sorted(parts))}")
    return "; ".join(divided)


def _stage(name: str, progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, n: progress(name, done, n)
