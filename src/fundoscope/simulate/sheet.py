"""A contact sheet: 24 eyes of a cohort at one glance."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np

from fundoscope.imaging import Pixels, read

_COLUMNS, _ROWS = 6, 4
_TILE = (240, 240)  # rows, columns
_CAPTION = 22


def write_sheet(out: Path) -> Path:
    """Write `sheet.png` with the first photograph of up to 24 eyes of the cohort in `out`, each with its truth."""
    with (out / "cohort.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    eyes: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        eyes.setdefault((row.get("infant", row["image"]), row["eye"]), row)
    tiles = [_tile(read(out / row["image"]).pixels, _caption(row)) for row in list(eyes.values())[: _COLUMNS * _ROWS]]
    path = out / "sheet.png"
    cv2.imwrite(str(path), _arrange(tiles)[..., ::-1])
    return path


def _caption(row: dict[str, str]) -> str:
    if "stage" not in row:
        return f"{row['camera']} {row['eye']} {row['level']}"
    if row["label"] == "normal":
        return f"no ROP seen, {row['aim']}, {row['level']}"
    treat = " TR" if row["treatment_requiring"] == "yes" else ""
    zone = f" zone {row['zone']}" if row["zone"] else ""
    return f"stage {row['stage']}{zone} {row['plus'] if row['plus'] != 'none' else ''}{treat}"


def _tile(pixels: Pixels, caption: str) -> Pixels:
    scale = min(_TILE[0] / pixels.shape[0], _TILE[1] / pixels.shape[1])
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    tile = np.zeros((_TILE[0] + _CAPTION, _TILE[1], 3), np.uint8)
    top, left = (_TILE[0] - size[1]) // 2, (_TILE[1] - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    at = (4, _TILE[0] + 15)
    cv2.putText(tile, caption, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (235, 235, 235), 1, cv2.LINE_AA)
    return tile


def _arrange(tiles: list[Pixels]) -> Pixels:
    columns = min(_COLUMNS, len(tiles))
    blank = np.zeros_like(tiles[0])
    tiles = tiles + [blank] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)])
