"""Step 1 of a study of crossings: which photographs train, choose the confidence, and test. Reads the sets, writes split.json.

A photograph of a part called `test` never trains; where the recipe keeps tests closed it is not even tested, but some of
the part `training` are. `study.json` holds the sets, the recipe and the seeds, so that a
continuation with other ones is refused.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fundoscope.datasets import Dataset, PhotographRecord, open_dataset
from fundoscope.errors import UsageError, counted, nearest
from fundoscope.nicking.recipes.crossings import CrossingRecipe, SplitNumbers
from fundoscope.studies import Progress, Study, command, versions_of, write_json

SPLIT_FILE = "split.json"
PYRAMIDS = ("safpn", "fpn")
PARTS = ("train", "inner", "test")
_PACKAGES = ("fundoscope", "torch", "torchvision", "timm", "faster-coco-eval", "numpy")


@dataclass(frozen=True)
class Pace:
    """How a study uses the machine: `fits` are detectors that are trained at once, each with so many processes that draw its
    examples (0: it draws them itself); no epoch begins after the time `stop_at` (`time.time`).
    """

    fits: int = 1
    drawing: int = 0
    stop_at: float = math.inf


@dataclass(frozen=True)
class CrossingOptions:
    """What a study of crossings is asked for.

    `folders` of sets; the folder `out` of the study; the `recipe`; the `pyramids` that are compared, `seeds` times each. With
    `maps`, the folder of a round that training maps wrote, the body starts from these weights instead of ImageNet's. `pace`
    changes no result.
    """

    folders: tuple[Path, ...]
    out: Path
    recipe: CrossingRecipe
    pyramids: tuple[str, ...] = PYRAMIDS
    seeds: int = 1
    maps: Path | None = None
    pace: Pace = Pace()


@dataclass(frozen=True)
class PhotographSplit:
    """The `names` of the photographs of each part, as `<set>/<photograph>`."""

    names: dict[str, tuple[str, ...]]

    @classmethod
    def from_sets(cls, sets: Sequence[Dataset], numbers: SplitNumbers) -> PhotographSplit:
        """Sets with a part `test` are tested on that and trained on the rest; of others the first by name train. Where tests
        stay closed, the parts `test` must have been left out of `sets`, and of all sets the first by name train.

        Raises `UsageError` where photographs of one group would stand in two parts, or a part would be empty.
        """
        train: list[str] = []
        test: list[str] = []
        for dataset in sets:
            is_tested = [source.dataset.endswith(" test") for source in dataset.sources]
            in_parts = any(source.dataset.endswith((" test", " training")) for source in dataset.sources)
            if numbers.tests_stay_closed or not in_parts:
                first = sorted(dataset.names)[: round(numbers.training_share * len(dataset))]
                is_tested = [name not in first for name in dataset.names]
            groups = {
                tested: {g for g, t in zip(dataset.groups, is_tested, strict=True) if t == tested}
                for tested in (True, False)
            }
            divided = groups[True] & groups[False]
            if divided:
                problem = f"{', '.join(sorted(divided))} would be trained on and tested"
                raise UsageError(f"{dataset.folder}: {problem}. Give the parts as folders training/ and test/.")
            for source, tested in zip(dataset.sources, is_tested, strict=True):
                (test if tested else train).append(source.full_name)
        inner = train[numbers.inner_every // 2 :: numbers.inner_every]
        split = cls({"train": tuple(n for n in train if n not in inner), "inner": tuple(inner), "test": tuple(test)})
        for part, names in split.names.items():
            if not names:
                problem = f"the photographs ({len(train) + len(test)}) leave none for the part '{part}'"
                raise UsageError(f"{problem}. Give larger sets, or folders with training/ and test/.")
        return split

    @classmethod
    def read_or_write(cls, path: Path, sets: Sequence[Dataset], numbers: SplitNumbers) -> PhotographSplit:
        """The split of a file, which is written where there is none; `UsageError` if it is of other photographs."""
        made = cls.from_sets(sets, numbers)
        if not path.exists():
            write_json(path, made.names)
        split = cls({part: tuple(names) for part, names in json.loads(path.read_text(encoding="utf-8")).items()})
        if split != made:
            raise UsageError(f"{path} is of other photographs. Give another folder to --out, or the same sets.")
        return split

    def records(self, sets: Sequence[Dataset], part: str) -> Iterator[PhotographRecord]:
        """The photographs of a part, read one by one."""
        for dataset in sets:
            for number, source in enumerate(dataset.sources):
                if source.full_name in self.names[part]:
                    yield dataset[number]


@dataclass(frozen=True)
class CrossingPlan:
    """What a study of crossings will do, and its folder; `sets` are those of which all crossings are known, and `arms` the
    pyramid and the seed of each detector that is trained.
    """

    options: CrossingOptions
    study: Study
    sets: tuple[Dataset, ...] = field(repr=False)
    split: PhotographSplit = field(repr=False)
    arms: tuple[tuple[str, int], ...]

    def records(self, part: str) -> Iterator[PhotographRecord]:
        """The photographs of a part (`PARTS`), read one by one."""
        return self.split.records(self.sets, part)


def plan_study(options: CrossingOptions, progress: Progress) -> CrossingPlan:
    """Open or continue the study in `options.out`, and write which photographs train and test.

    Sets whose crossings are not all known are left out and named. Raises `UsageError` where none remains, or a pyramid is
    unknown, `StudyError` where the folder holds another study.
    """
    for pyramid in options.pyramids:
        if pyramid not in PYRAMIDS:
            raise UsageError(f"There is no pyramid '{pyramid}': {nearest(pyramid, PYRAMIDS)} Give one of these.")
    sets = []
    for dataset in map(open_dataset, options.folders):
        if options.recipe.split.tests_stay_closed:
            dataset = replace(dataset, sources=tuple(s for s in dataset.sources if not s.dataset.endswith(" test")))
        if not len(dataset):
            continue
        first = dataset[0]
        if first.complete and first.crossings is not None:
            sets.append(dataset)
        else:
            progress.say(f"{dataset.folder}: left out, since not all of its crossings are known")
    if not sets:
        raise UsageError("None of the sets knows all its crossings. Give DRIVE with RITE's maps, IOSTAR or LES-AV.")
    manifest = {
        "task": "crossings",
        "sets": [source.full_name for dataset in sets for source in dataset.sources],
        "recipe": options.recipe.model_dump(mode="json"),
        "pyramids": list(options.pyramids),
        "seeds": options.seeds,
        "maps": None if options.maps is None else str(options.maps),
        "versions": versions_of(name for name in _PACKAGES if _is_installed(name)),
        "commands": [command()],
    }
    read = [*options.folders, *(source.path for dataset in sets for source in dataset.sources)]
    study = Study.open(options.out, manifest, [*read, *([] if options.maps is None else [options.maps])])
    split = PhotographSplit.read_or_write(study.folder / SPLIT_FILE, sets, options.recipe.split)
    progress.say("  ".join(f"{part}: {counted(len(names), 'photograph')}" for part, names in split.names.items()))
    arms = tuple((pyramid, seed) for pyramid in options.pyramids for seed in range(options.seeds))
    return CrossingPlan(options, study, tuple(sets), split, arms)


def _is_installed(package: str) -> bool:
    """Whether a package has a version to tell; one whose source is only on the path has none."""
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
