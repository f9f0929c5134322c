"""From a trained network of infants' vessels to the files that ship: `make weights-infant-vessels`.

    python -m fundoscope.rop.vessel_training.ship --data DATA --training runs/infant_vessels --out runs/infant_index [--into FOLDER]

In order: the network as ONNX; the threshold of its vessel map, and the weights of the score, on simulated eyes that taught the network
nothing; the scores of normal photographs of each camera. The eyes are kept in OUT/eyes, so that the command goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fundoscope.bundles.onnx_files import copy_for_export, export_onnx
from fundoscope.bundles.read import load_network
from fundoscope.bundles.write_nicking import TOLERANCE, ProbabilityMaps
from fundoscope.errors import FundoscopeError, StudyError, UsageError
from fundoscope.folders import Skipped, photographs_below
from fundoscope.imaging import Prepared
from fundoscope.imaging.local_contrast import local_contrast, scale_to_diameter
from fundoscope.imaging.quality import judge_quality
from fundoscope.networks import VesselNet
from fundoscope.rop.vascular.index import (
    FOLDER,
    INDEX_FILE,
    VascularIndex,
    VascularReference,
    VascularWeights,
    measure_infant_maps,
    vascular_features,
)
from fundoscope.rop.vascular.network import NETWORK_FILE, STRIDE, InfantMaps, map_infant
from fundoscope.rop.vessel_training.plus_eyes import PlusEye, read_plus_eyes
from fundoscope.rop.vessel_training.recipe import InfantVesselRecipe, read_infant_vessel_recipe
from fundoscope.rop.vessel_training.train import read_infant_vessel_network
from fundoscope.studies import write_json

_PARITY_EYES = 2  # eyes on which the file is compared with the network


def write_infant_network(network: VesselNet, eyes: Sequence[PlusEye], path: Path) -> float:
    """Write a network as ONNX with weights of 16 bits; returns the largest difference of a probability at any pixel of some eyes.

    Raises `StudyError` where it is more than weights of 16 bits explain.
    """
    maps = copy_for_export(ProbabilityMaps(network))
    rows, columns = (STRIDE * torch.export.Dim(name, min=2, max=400) for name in ("h", "w"))
    example = torch.zeros(1, 3, 10 * STRIDE, 12 * STRIDE)
    export_onnx(maps, example, path, names=("contrast", "maps"), sizes={2: rows, 3: columns}, half=True)
    session = load_network(path.read_bytes(), path.name)
    worst = 0.0
    for eye in eyes:
        contrast = local_contrast(*scale_to_diameter(Prepared.read(eye.file, "a simulated eye").pixels))
        height, width = (side // STRIDE * STRIDE for side in contrast.shape[1:])
        whole = np.ascontiguousarray(contrast[None, :, :height, :width])
        (found,) = session.run(["maps"], {"contrast": whole})
        with torch.no_grad():
            worst = max(worst, float(np.abs(np.asarray(found) - maps(torch.from_numpy(whole)).numpy()).max()))
    if not worst <= TOLERANCE:
        raise StudyError(f"{path.name} strays from the network by {worst:.2g}: nothing was shipped. Train it anew.")
    return worst


def choose_vessel_threshold(maps: Sequence[InfantMaps], eyes: Sequence[PlusEye], tried: Sequence[float]) -> float:
    """The threshold of the best mean Dice on the vessels of simulated eyes."""

    def dice(own: InfantMaps, eye: PlusEye, threshold: float) -> float:
        true, found = eye.planes[..., 0] > 127, own.vessel >= threshold
        return 2 * float((true & found).sum()) / max(1, int(true.sum() + found.sum()))

    means = [np.mean([dice(own, eye, each) for own, eye in zip(maps, eyes, strict=True)]) for each in tried]
    return float(tried[int(np.argmax(means))])


def fit_vascular_weights(
    features: NDArray[np.float64], plus: NDArray[np.bool_], floor: float, strength: float, fitted_on: str
) -> VascularWeights:
    """Weights of the score by logistic regression of plus disease on `features` (n, 2); `strength` is scikit-learn's C."""
    centre, spread = features.mean(axis=0), features.std(axis=0)
    model = LogisticRegression(C=strength).fit((features - centre) / spread, plus)
    weight = np.maximum(model.coef_[0], 0)  # both signs of plus disease: a vessel is never less suspect for being wider
    width, tortuosity = (tuple(round(float(v), 5) for v in pair) for pair in zip(centre, spread, strict=True))
    return VascularWeights(
        (width[0], tortuosity[0]), (width[1], tortuosity[1]), (round(float(weight[0]), 5), round(float(weight[1]), 5)),
        floor, fitted_on,
    )  # fmt: skip


def measure_normals(index: VascularIndex, folder: Path, source: str) -> VascularReference:
    """The reference of the normal photographs in a folder; those that screening refuses are left out. Raises `UsageError` without any."""
    scores, looked = [], 0
    for path in photographs_below(folder, Skipped()):
        photograph = Prepared.read(path)
        if not judge_quality(photograph, "infant").gradable:
            continue
        looked += 1
        score = index.weights.score(index.measure(photograph)[1])
        if score is not None:
            scores.append(round(score, 4))
    if not scores:
        raise UsageError(f"{folder}: holds no normal photograph that can be measured. Give another data folder.")
    return VascularReference(tuple(sorted(scores)), looked, source)


def ship_vascular_index(
    recipe: InfantVesselRecipe, data: Path, training: Path, out: Path, into: Path
) -> dict[str, Any]:
    """Write network and index of a training into the folder `into`; returns what `vascular_index.json` holds."""
    numbers = recipe.index
    eyes = list(read_plus_eyes(out / "eyes", numbers.seed, numbers.photographs))
    into.mkdir(parents=True, exist_ok=True)
    path = into / NETWORK_FILE
    network = read_infant_vessel_network(recipe, training / "result")
    difference = write_infant_network(network, eyes[:_PARITY_EYES], path)
    session = load_network(path.read_bytes(), path.name)
    maps = [map_infant(Prepared.read(eye.file, "a simulated eye"), session) for eye in eyes]
    threshold = choose_vessel_threshold(maps, eyes, numbers.vessel_thresholds)
    measured = [measure_infant_maps(own, threshold) for own in maps]
    known = [k for k, each in enumerate(measured) if not each.reason]
    features = np.array([vascular_features(measured[k], numbers.floor) for k in known])
    plus = np.array([eyes[k].plus == "plus" for k in known])
    fitted_on = f"{len(known)} of {len(eyes)} simulated eyes (seed {numbers.seed}), {int(plus.sum())} with plus disease"
    weights = fit_vascular_weights(features, plus, numbers.floor, numbers.inverse_regularisation, fitted_on)
    index = VascularIndex(session, threshold, weights, {})
    references = {each.camera: measure_normals(index, data / each.folder, each.source) for each in numbers.references}
    values = {
        "network_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "recipe": recipe.name,
        "parity": round(difference, 5),
        "threshold": threshold,
        "weights": asdict(weights),
        "references": {name: asdict(each) for name, each in references.items()},
    }
    write_json(into / INDEX_FILE, values)
    return values


def main() -> None:
    """The command `python -m fundoscope.rop.vessel_training.ship`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public sets")
    parser.add_argument("--recipe", default="usual", help="the recipe of the training: its name, or a TOML file")
    parser.add_argument("--training", type=Path, required=True, help="folder of the training")
    parser.add_argument("--out", type=Path, required=True, help="folder in which simulated eyes are kept")
    parser.add_argument(
        "--into", type=Path, default=FOLDER, help="folder of the files that ship; by default the package's"
    )
    given = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        recipe = read_infant_vessel_recipe(given.recipe)
        values = ship_vascular_index(recipe, given.data, given.training, given.out, given.into)
    except FundoscopeError as error:
        sys.exit(str(error))
    print(f"threshold {values['threshold']}, weights {values['weights']['weight']}: {values['weights']['fitted_on']}")
    for name, each in values["references"].items():
        print(f"{name}: {len(each['scores'])} of {each['photographs']} normal photographs measured ({each['source']})")


if __name__ == "__main__":
    main()
