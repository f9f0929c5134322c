"""How often text that is written over photographs is found and blacked out, and how often a vessel or a lesion is taken for text.

    python benchmarks/burnt_in_text.py [--data DIR] [--photographs 6]

Into each photograph a line of text is drawn at a random place, in five colours, four of OpenCV's typefaces, and sizes of 1 to 3 %
of the photograph's side. It counts as removed when 90 % of its pixels are black afterwards. Writes docs/results/burnt_in_text.csv:
a row a data set.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import cv2
import numpy as np

from fundoscope.dicom.burnt_in import black_out, find_burnt_in
from fundoscope.imaging import find_field, read

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "burnt_in_text.csv"
SETS = {
    "HVDROPDB, RetCam": "hvdropdb_retcam/*/*", "HVDROPDB, Neo": "hvdropdb_neo/*/*", "HVDROPDB, ridges": "hvdropdb_ridge/images/*",
    "HRF": "hrf_av/images/*", "LES-AV": "les_av/images/*", "CHASE_DB1": "chase_db1/images/*", "STARE": "stare/images/*",
    "IOSTAR": "iostar/images/*", "DRIVE, training": "drive_av/training/images/*",
}  # fmt: skip
TEXTS = ("WANG XIAODONG 1998-03-04", "4711 OD", "Smith, John", "ID: 883-221")
COLOURS = ((255, 255, 255), (255, 255, 0), (0, 255, 0), (0, 0, 0), (255, 128, 0))
FACES = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)
REMOVED = 0.9


def written_on(pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The photograph with a text on it, and which pixels were drawn."""
    rows, columns = pixels.shape[:2]
    text, colour, face = TEXTS[rng.integers(4)], COLOURS[rng.integers(5)], FACES[rng.integers(4)]
    height = rng.uniform(0.01, 0.03) * max(rows, columns)
    size = cv2.getFontScaleFromHeight(face, max(8, round(height)))
    thick = max(1, round(height / rng.uniform(6, 14)))
    (width, _), _ = cv2.getTextSize(text, face, size, thick)
    place = (int(rng.integers(0, max(1, columns - width))), int(rng.integers(2 * int(height), rows)))
    shown = cv2.putText(pixels.copy(), text, place, face, size, colour, thick, cv2.LINE_AA)
    return shown, (shown != pixels).any(2)


def main() -> None:
    """Draw, look, count, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FUNDOSCOPE_DATA", "../shared/data")))
    parser.add_argument("--photographs", type=int, default=6)
    options = parser.parse_args()
    rng, rows = np.random.default_rng(0), []
    for name, pattern in SETS.items():
        files = sorted(options.data.glob(pattern))
        chosen = [files[k] for k in sorted(rng.choice(len(files), min(options.photographs, len(files)), replace=False))]
        false, texts, removed = 0, 0, 0
        for path in chosen:
            pixels = read(path).pixels
            false += bool(find_burnt_in(pixels).boxes)
            shown, drawn = written_on(pixels, rng)
            if drawn.sum() < 50:  # black on black, or beyond the edge
                continue
            field = find_field(shown)
            cleaned = black_out(shown, find_burnt_in(shown, field), field)
            texts += 1
            removed += bool((cleaned[drawn].max(1) == 0).mean() >= REMOVED)
        rows.append(
            {
                "set": name,
                "photographs": len(chosen),
                "without_text_but_called_so": false,
                "texts": texts,
                "removed": removed,
            }
        )
        print(rows[-1], flush=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
