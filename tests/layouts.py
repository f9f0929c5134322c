"""Tiny folders in the layouts of the public sets, filled with simulated eyes, for the tests of datasets and labels."""

from functools import cache

import cv2
import numpy as np
from PIL import Image
from scipy.io import savemat

from fundoscope.simulate import adult

EYES = {"01": 3, "02": 5}  # number in a file's name, and seed


@cache
def eyes():
    """Two simulated adults' photographs of DRIVE's size, by number."""
    return {number: adult(seed, camera="drive", level="good") for number, seed in EYES.items()}


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = picture.astype(np.uint8) * 255 if picture.dtype == bool else picture
    Image.fromarray(picture).save(path)


def colours(truth):
    """RITE's colours: red artery, blue vein, green both."""
    picture = np.zeros((*truth.artery.shape, 3), np.uint8)
    picture[truth.artery] = 255, 0, 0
    picture[truth.vein] = 0, 0, 255
    picture[truth.artery & truth.vein] = 0, 255, 0
    return picture


def points(truth):
    """Crossings to the nearest pixel, (n, 2), row and column, 0-based."""
    return np.rint([(c.row, c.col) for c in truth.crossings])


def drive(folder, eyes):
    for number, eye in eyes.items():
        save(folder / "training/images" / f"{number}_training.tif", eye.pixels)
        save(folder / "training/mask" / f"{number}_training_mask.gif", eye.truth.field)
        save(folder / "training/1st_manual" / f"{number}_manual1.gif", eye.truth.vessel)


def rite(folder, eyes, part="test", mask=True):
    for number, eye in eyes.items():
        save(folder / part / "images" / f"{number}_{part}.tif", eye.pixels)
        save(folder / part / "av" / f"{number}_{part}.png", colours(eye.truth))
        save(folder / part / "vessel" / f"{number}_{part}.png", eye.truth.vessel)
        if mask:
            save(folder / part / "mask" / f"{number}_{part}_mask.gif", eye.truth.field)


def hrf(folder, eyes):
    for number, eye in eyes.items():
        save(folder / "images" / f"{number}_h.png", eye.pixels)
        save(folder / "av" / f"{number}_h.png", (colours(eye.truth) * 0.9 + 12).astype(np.uint8))  # not quite on or off
        save(folder / "mask" / f"{number}_h_mask.tif", np.repeat(np.uint8(255 * eye.truth.field)[..., None], 3, 2))


def les_av(folder, eyes):
    for number, eye in eyes.items():
        save(folder / "images" / f"{number}.png", eye.pixels)
        save(folder / "vessel-segmentations" / f"{number}.png", eye.truth.vessel)
        save(folder / "arteries-and-veins" / f"{number}.png", colours(eye.truth))
        save(folder / "masks" / f"{number}_mask.gif", eye.truth.field)


def les_av_short(folder, eyes):
    for number, eye in eyes.items():
        save(folder / "images" / f"{number}.png", eye.pixels)
        save(folder / "av" / f"{number}.png", colours(eye.truth))
        save(folder / "mask" / f"{number}_mask.gif", eye.truth.field)


def stare(folder, eyes):
    for number, eye in eyes.items():
        save(folder / "images" / f"im{number}.png", eye.pixels)
        save(folder / "vessel_ah" / f"im{number}.png", eye.truth.vessel)


def chase(folder, eyes):
    for number, eye in eyes.items():
        save(folder / "images" / f"Image_{number}L.png", eye.pixels)
        save(folder / "vessel_1" / f"Image_{number}L.png", eye.truth.vessel)
        save(folder / "vessel_2" / f"Image_{number}L.png", eye.truth.artery)


def junctions(folder, eyes):
    """As `iostar` of the shared data: photographs cut and shrunk from originals, vessels for the first only."""
    for number, eye in eyes.items():
        rows, columns = eye.pixels.shape[:2]
        original = cv2.resize(eye.pixels, (2 * columns, 2 * rows), interpolation=cv2.INTER_CUBIC)
        save(folder / "images_1024" / f"EYE_{number}.png", original[6:])  # its frame begins 3 rows lower
        save(folder / "images" / f"EYE_{number}.png", eye.pixels)
        mat = {"CrossPos": points(eye.truth) + 1, "BiffPos": np.array([[10, 300]]), "EndpointPos": np.zeros((0, 2))}
        (folder / "junctions").mkdir(exist_ok=True)
        savemat(folder / "junctions" / f"EYE_{number}_JunctionsPos.mat", mat)
    first = next(iter(eyes))
    save(folder / "vessel_512" / f"GT_{first}.png", eyes[first].truth.vessel[3:])


def iostar(folder, eyes):
    for number, eye in eyes.items():
        stem = f"STAR {number}_OSC"
        save(folder / "image" / f"{stem}.png", eye.pixels)
        save(folder / "GT" / f"{stem}_GT.tif", eye.truth.vessel)
        save(folder / "AV_GT" / f"{stem}_AV.tif", colours(eye.truth))
        save(folder / "mask" / f"{stem}_Mask.tif", eye.truth.field)
    mat = {"CrossPos": points(eyes["01"].truth) + 1, "BiffPos": np.ones((1, 2)), "EndpointPos": np.ones((1, 2))}
    savemat(folder / "STAR 01_OSC_JunctionsPos.mat", mat)


def avn(folder, eyes):
    lines = ["index, patch, level"]
    for k, (number, eye) in enumerate(eyes.items()):
        for row in (100, 200):
            name = f"CERA_{number}_cy_{row}_cx_250"
            save(folder / f"{name}.png", eye.pixels[row : row + 60, 250:310])
            lines.append(f"{len(lines)}, {name}, {(k + row // 100) % 4}")
    (folder / "grading.txt").write_text("\n".join(lines) + "\n")
