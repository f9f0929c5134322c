"""What an audit reports: kinds of problems, the problems themselves, and pairs of photographs that show one eye."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fundoscope.cohort.fingerprints import TURNS


class ProblemKind(StrEnum):
    """What can be wrong with a cohort or its folds, the gravest first."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    TWO_LABELS = "one picture under two labels"
    TWO_INFANTS = "one eye under two infants"
    TWO_SPELLINGS = "one infant in two spellings"
    TWO_EXAM_SPELLINGS = "one exam in two spellings"
    INFANT_SPLIT = "infant on two sides of a split"
    LIKENESS_SPLIT = "one eye on two sides of a split"
    SAME_FILE = "same file"
    SAME_PIXELS = "same pixels"
    NEAR_DUPLICATE = "near-duplicate"
    SAME_EYE = "same eye, moved"


@dataclass(frozen=True, slots=True)
class SameEyePair:
    """Two photographs that show one eye, by their rows (or indices) from 0, the lower one first.

    `kind` says how alike they are: one of the last four of `ProblemKind`. `turn` is the index in `TURNS` that brings the
    second photograph to the first; `similarity` is a correlation, 0 to 1.
    """

    kind: ProblemKind
    first: int
    second: int
    turn: int = 0
    similarity: float = 1.0


@dataclass(frozen=True, slots=True)
class AuditProblem:
    """One thing that is wrong: its kind, the photographs concerned (`rows` from 0, and their `paths`), and `detail` in words.

    Problems of a pair also have its `similarity` (0 to 1) and `turn`, as in `SameEyePair`.
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
