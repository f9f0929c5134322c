"""`fundoscope nicking study-crossings`: Mask R-CNN with a scale-attention pyramid on public sets (paper 002, section 5).

    split.json      who trains, who chooses the confidence, who is tested: by photograph, written once
    fits/           a folder a pyramid and seed: step_1 on whole photographs, step_2 on patches around crossings
    tables/         COCO's figures of both steps; precision, recall and F1; the paired difference of the pyramids
    report.html     the same with curves, and photographs with what was found
    upstream/       what the first detector hands down to `study-grades`

Each fit is skipped when it is there, and goes on where it was cut off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import torch

from fundoscope.datasets import Dataset, PhotographRecord, open_dataset
from fundoscope.errors import LeakError, UsageError
from fundoscope.evaluation.detection import (
    CocoScores,
    DetectionOutcome,
    DetectionPoint,
    Instances,
    best_f1,
    coco_lines,
    coco_scores,
    detection_estimates,
    f1_difference,
    score_instances,
)
from fundoscope.evaluation.metrics import results_table
from fundoscope.learning.crossing_photographs import CrossingPhotograph, Labels
from fundoscope.learning.detector_fit import PAPER_STEPS, DetectorFitOptions, detect_crossings, fit_step
from fundoscope.networks.mask_rcnn import BOX, CrossingDetector, DetectorOptions
from fundoscope.networks.multiscale_bodies import build_multiscale_body, load_vessel_net_weights
from fundoscope.nicking.crossing_study.split import Split
from fundoscope.nicking.crossing_study.vessel_maps import taught
from fundoscope.nicking.grade_study.transfer import write_upstream
from fundoscope.studies import Progress, Study, command, versions_of

PATCH = 128  # pixels of the patches of the second step
_OFFSET = PATCH // 3  # of a crossing from the middle of its patch, at most
_TRIES = 200  # places at which a patch without any crossing is looked for
_PACKAGES = ("fundoscope", "torch", "torchvision", "timm", "faster-coco-eval", "numpy")


@dataclass(frozen=True)
class CrossingOptions:
    """What the command line asked for: folders of sets, pyramids to compare, seeds, every number of the training, and the
    folder of a network of maps that the body starts from (`nicking.maps.fit_maps`) instead of ImageNet.
    """

    folders: tuple[Path, ...]
    out: Path
    pyramids: tuple[str, ...] = ("safpn", "fpn")
    seeds: int = 1
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    steps: tuple[DetectorFitOptions, ...] = PAPER_STEPS
    labels: Labels = "paper"
    maps: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What a detector is asked about: a whole photograph of a set or a patch of one, and the crossings in it."""

    name: str
    dataset: str
    pixels: np.ndarray
    contrast: torch.Tensor
    truth: Instances


class CrossingStudy:
    """A study that is going on: its photographs, its fits, and what they found."""

    def __init__(self, options: CrossingOptions, voice: Progress) -> None:
        self.options, self.voice = options, voice
        sets = [open_dataset(folder) for folder in options.folders]
        self.sets = [known for known in sets if self._is_complete(known)]
        if not self.sets:
            raise UsageError("None of the sets knows all its crossings. Give DRIVE with RITE's maps, IOSTAR or LES-AV.")
        self.study = Study.open(options.out, _manifest(options, self.sets))
        self.split = Split.kept(self.study.folder / "split.json", self.sets)
        self.start = None if options.maps is None else self._unseen(options.maps)

    def _unseen(self, folder: Path) -> dict[str, torch.Tensor]:
        """The weights of a network of maps that saw no photograph of the test part."""
        weights, seen = taught(folder)
        leaked = sorted(seen & set(self.split.names["test"]))
        if leaked:
            raise LeakError(f"{folder} has seen {leaked[0]}, which is to be tested. Give maps that have not seen it.")
        inner = len(seen & set(self.split.names["inner"]))
        if inner:
            self.voice.say(f"{folder} has seen {inner} inner photographs, so the confidence may be chosen too high")
        return weights

    def _is_complete(self, known: Dataset) -> bool:
        first = known[0]
        whole = first.complete and first.crossings is not None
        if not whole:
            self.voice.say(f"{known.folder}: left out, since not all of its crossings are known")
        return whole

    def marked(self, part: str) -> list[CrossingPhotograph]:
        """The photographs of a part, with their crossings."""
        return [photograph for _, photograph in self._marked_records(part)]

    @cached_property
    def tested(self) -> list[Shown]:
        """The whole photographs of the test part."""
        return self._whole("test")

    def _whole(self, part: str) -> list[Shown]:
        return [
            Shown(record.name, record.dataset, photograph.pixels, photograph.contrast, photograph.truth)
            for record, photograph in self._marked_records(part)
        ]

    def _marked_records(self, part: str) -> Iterator[tuple[PhotographRecord, CrossingPhotograph]]:
        for record in self.split.records(self.sets, part):
            yield record, CrossingPhotograph.from_record(record, self.options.labels)

    @cached_property
    def patches(self) -> list[Shown]:
        """Around each crossing of the test photographs one patch, off its middle at random; as many without a crossing."""
        return [
            patch
            for number, (record, photograph) in enumerate(self._marked_records("test"))
            for patch in patches_of(record, photograph, np.random.default_rng((0xC0, number)))
        ]

    def model(self, pyramid: str, seed: int, steps: int) -> CrossingDetector:
        """The detector after so many steps of its training, trained as far as that is not done."""
        torch.manual_seed(seed)
        options = replace(self.options.detector, pyramid=pyramid)
        body = build_multiscale_body(options.body, options.pretrained, options.frozen_stages)
        if self.start is not None:
            load_vessel_net_weights(body, self.start)
        detector = CrossingDetector(options, body)
        train = self._training
        for number, step in enumerate(self.options.steps[:steps], start=1):
            folder = self.study.folder / "fits" / f"{pyramid}-{seed}" / f"step_{number}"
            fit_step(detector, train, step, folder, seed)
        return detector.eval()

    @cached_property
    def _training(self) -> list[CrossingPhotograph]:
        return self.marked("train")

    def confidence(self, detector: CrossingDetector) -> DetectionPoint:
        """The confidence from which on a detection counts, chosen on the inner photographs."""
        return best_f1([score_instances(detect_crossings(detector, each.contrast), each.truth) for each in self._inner])

    @cached_property
    def _inner(self) -> list[Shown]:
        return self._whole("inner")


def patches_of(record: PhotographRecord, photograph: CrossingPhotograph, rng: np.random.Generator) -> list[Shown]:
    """Patches around all crossings of a photograph, and as many without one, as far as such places are found."""
    found = []
    for number, (x1, y1, x2, y2) in enumerate(photograph.boxes):
        row, column = rng.integers(-_OFFSET, _OFFSET + 1, 2)
        at = int((y1 + y2) // 2 + row), int((x1 + x2) // 2 + column)
        contrast, patch = photograph.patch(*at, PATCH)
        found.append(Shown(f"{record.name} crossing {number + 1}", record.dataset, patch.pixels, contrast, patch.truth))
    rows, columns = np.nonzero(photograph.inside)
    empty = 0
    for at in rng.integers(len(rows), size=_TRIES):
        contrast, patch = photograph.patch(int(rows[at]), int(columns[at]), PATCH)
        if not len(patch.boxes) and empty < len(photograph.boxes):
            empty += 1
            found.append(Shown(f"{record.name} empty {empty}", record.dataset, patch.pixels, contrast, patch.truth))
    return found


def by_set(shown: Sequence[Shown]) -> dict[str, list[int]]:
    """Which of them are of each set, and, where there are several sets, all."""
    sets = {each.dataset: [k for k, other in enumerate(shown) if other.dataset == each.dataset] for each in shown}
    return sets if len(sets) == 1 else {**sets, "all": list(range(len(shown)))}


def centre_box(shown: Sequence[Shown]) -> list[Instances]:
    """The trivial detector of patches: the paper's box in the middle, always, all of it vessel."""
    side = BOX * DetectorOptions().diameter
    low, high = (PATCH - side) / 2, (PATCH + side) / 2
    mask = np.zeros((1, PATCH, PATCH), bool)
    mask[0, round(low) : round(high), round(low) : round(high)] = True
    return [Instances(np.array([[low, low, high, high]]), np.ones(1), mask) for _ in shown]


def run_study(options: CrossingOptions, voice: Progress) -> Path:
    """Run or continue the study in `options.out`; returns the path of its report."""
    from fundoscope.nicking.crossing_study.pages import write_report

    study = CrossingStudy(options, voice)
    counted = {part: len(names) for part, names in study.split.names.items()}
    voice.say("  ".join(f"{part}: {n} photographs" for part, n in counted.items()))
    found = Found(study)
    for pyramid in options.pyramids:
        for seed in range(options.seeds):
            voice.say(f"{pyramid}, seed {seed}")
            found.add(pyramid, seed)
    found.write_tables(study.study.folder / "tables")
    last = study.model(options.pyramids[0], 0, len(options.steps))
    seen = (*study.split.names["train"], *study.split.names["inner"])
    write_upstream(study.study.folder / "upstream", seen, last)
    report = write_report(found, study.study.folder)
    voice.say(f"report: {report}")
    return report


class Found:
    """What the detectors of a study found on the test part, and its figures."""

    def __init__(self, study: CrossingStudy) -> None:
        self.study = study
        self.coco: list[dict[str, object]] = []
        self.detection: list[dict[str, object]] = []
        self.outcomes: dict[str, list[list[DetectionOutcome]]] = {}
        self.points: dict[str, list[DetectionPoint]] = {}
        self.answers: dict[tuple[str, int], list[Instances]] = {}
        baseline = centre_box(study.patches)
        self._score("centre box", "", "patches", study.patches, baseline)

    def add(self, pyramid: str, seed: int) -> None:
        """Train, if need be, and judge the detector of a pyramid and seed after each step."""
        first = self.study.model(pyramid, seed, 1)
        whole = [detect_crossings(first, each.contrast) for each in self.study.tested]
        self._score(pyramid, seed, "whole photographs, step 1", self.study.tested, whole)
        last = self.study.model(pyramid, seed, len(self.study.options.steps))
        self._score(
            pyramid,
            seed,
            "patches, last step",
            self.study.patches,
            [detect_crossings(last, each.contrast) for each in self.study.patches],
        )
        point = self.study.confidence(first)
        outcomes = [score_instances(a, each.truth) for a, each in zip(whole, self.study.tested, strict=True)]
        for dataset, rows in by_set(self.study.tested).items():
            figures = detection_estimates([outcomes[k] for k in rows], point.threshold)
            about = {"detector": pyramid, "seed": seed, "set": dataset, "confidence": point.threshold}
            self.detection.append({**about, **figures})
        self.outcomes.setdefault(pyramid, []).append(outcomes)
        self.points.setdefault(pyramid, []).append(point)
        self.answers[pyramid, seed] = whole

    def _score(self, detector: str, seed: object, on: str, shown: Sequence[Shown], found: list[Instances]) -> None:
        for (dataset, rows), kind in product(by_set(shown).items(), ("bbox", "segm")):
            # IOSTAR's photographs mostly have no vessels drawn: boxes are scored on all, masks where there are some
            known = [k for k in rows if kind == "bbox" or shown[k].truth.masks is not None]
            if known:
                scores = coco_scores([shown[k].truth for k in known], [found[k] for k in known], kind)
                self.coco.append({"detector": detector, "seed": seed, "on": on, "set": dataset, **_row(scores)})
                for line in (f"{detector} {seed}, {on}, {dataset}", *coco_lines(scores)):
                    self.study.voice.say(line)

    def difference(self) -> dict[str, object] | None:
        """F1 of the first pyramid less the second's, paired by photograph, mean over seeds, each at its own confidence."""
        if len(self.outcomes) < 2:
            return None
        first, second = list(self.outcomes)[:2]
        confidences = [float(np.mean([p.threshold for p in self.points[each]])) for each in (first, second)]
        apart = f1_difference(
            self.outcomes[first], self.outcomes[second], (confidences[0], confidences[1]), (first, second)
        )
        return {"what": f"F1, {first} less {second}", "seeds": len(self.outcomes[first]), "difference": apart.estimate}

    def write_tables(self, folder: Path) -> None:
        """Write coco.csv, detection.csv and difference.csv."""
        folder.mkdir(parents=True, exist_ok=True)
        results_table(self.coco, folder / "coco.csv")
        results_table(self.detection, folder / "detection.csv")
        apart = self.difference()
        if apart is not None:
            results_table([apart], folder / "difference.csv")


def _row(scores: CocoScores) -> dict[str, object]:
    return {
        "kind": scores.kind, "photographs": scores.photographs, "crossings": scores.truths, "ap": scores.ap,
        "ap50": scores.ap50, "ap75": scores.ap75, "ar1": scores.values[6], "ar10": scores.values[7], "ar100": scores.values[8],
    }  # fmt: skip


def _manifest(options: CrossingOptions, sets: Sequence[Dataset]) -> dict[str, object]:
    return {
        "task": "crossings",
        "sets": [source.full_name for known in sets for source in known.sources],
        "pyramids": list(options.pyramids),
        "seeds": options.seeds,
        "labels": options.labels,
        "maps": None if options.maps is None else str(options.maps),
        "detector": asdict(options.detector),
        "steps": [step.as_json() for step in options.steps],
        "versions": versions_of(_PACKAGES),
        "commands": [command()],
    }
