"""Who trains, who chooses, who is tested: by photograph, written once, and never a part called `test` in training."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fundoscope.datasets import Dataset, PhotographRecord
from fundoscope.errors import UsageError
from fundoscope.studies import write_json

TRAINED = 5 / 8  # of a set without parts, the first by name: IOSTAR's first 10 of 16
_EVERY = 5  # each fifth training photograph is not trained on but chooses the confidence that counts

PARTS = ("train", "inner", "test")


@dataclass(frozen=True)
class Split:
    """`names` of each part, as `<set>/<photograph>`."""

    names: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, sets: Sequence[Dataset]) -> Split:
        """Sets with a part `test` are tested on that and trained on the rest; of others the first 5/8 train.

        Raises `UsageError` where groups would be parted, or a part would be empty.
        """
        train: list[str] = []
        test: list[str] = []
        for known in sets:
            tested = [source.dataset.endswith(" test") for source in known.sources]
            if not any(source.dataset.endswith((" test", " training")) for source in known.sources):
                first = round(TRAINED * len(known))
                tested = [rank >= first for rank in _ranks(known.names)]
            parted = {g for g, t in zip(known.groups, tested, strict=True) if t} & {
                g for g, t in zip(known.groups, tested, strict=True) if not t
            }
            if parted:
                told = f"{', '.join(sorted(parted))} would be trained on and tested"
                raise UsageError(f"{known.folder}: {told}. Give the parts as folders training/ and test/.")
            for source, is_tested in zip(known.sources, tested, strict=True):
                (test if is_tested else train).append(source.full_name)
        inner = train[_EVERY // 2 :: _EVERY]
        split = cls({"train": tuple(n for n in train if n not in inner), "inner": tuple(inner), "test": tuple(test)})
        for part, names in split.names.items():
            if not names:
                told = f"{len(train) + len(test)} photographs leave none for the part '{part}'"
                raise UsageError(f"{told}. Give larger sets, or folders with training/ and test/.")
        return split

    @classmethod
    def kept(cls, path: Path, sets: Sequence[Dataset]) -> Split:
        """The split in a file, made and written where there is none; UsageError if it is of other photographs."""
        made = cls.of(sets)
        if not path.exists():
            write_json(path, made.names)
        split = cls({part: tuple(names) for part, names in json.loads(path.read_text(encoding="utf-8")).items()})
        if split != made:
            raise UsageError(f"{path} is of other photographs. Give another folder to --out, or the same sets.")
        return split

    def records(self, sets: Sequence[Dataset], part: str) -> Iterator[PhotographRecord]:
        """The photographs of a part, read one by one."""
        for known in sets:
            for number, source in enumerate(known.sources):
                if source.full_name in self.names[part]:
                    yield known[number]


def _ranks(names: Sequence[str]) -> list[int]:
    """The place of each name in the order of names."""
    order = sorted(range(len(names)), key=lambda k: names[k])
    ranks = [0] * len(names)
    for rank, k in enumerate(order):
        ranks[k] = rank
    return ranks
