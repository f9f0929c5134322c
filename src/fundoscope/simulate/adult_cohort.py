"""Write a cohort of adults: each photograph is another eye, with patches around its crossings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fundoscope.simulate import cohort_files
from fundoscope.simulate.adults import adult
from fundoscope.simulate.crossing_patches import write_patches

COLUMNS = ("image", "eye", "camera", "level", "crossings", "worst_grade", "seed")


@dataclass(frozen=True, slots=True)
class AdultJob:
    """One photograph to make: the cohort's `seed`, its number, and the options that were asked for."""

    seed: int
    number: int
    camera: str | None
    size: int | None


def write_adults(
    n: int,
    out: str | Path,
    seed: int = 0,
    workers: int = 1,
    sheet: bool = False,
    *,
    camera: str | None = None,
    size: int | None = None,
    progress: cohort_files.Progress | None = None,
) -> Path:
    """Write `n` photographs of adults' eyes, with their truth, into the folder `out`; returns the path of `cohort.csv`.

    Each is another eye; `patches/` holds the surroundings of its crossings. `sheet` adds `sheet.png` with 24 eyes.
    Raises `UsageError` for a count below one and for a folder that already holds a cohort.
    """
    out = Path(out)
    with cohort_files.cohort_folder(out, "simulate adults", n, workers) as part:
        (part / "patches").mkdir()
        jobs = (AdultJob(seed, number, camera, size) for number in range(n))
        written = cohort_files.run_jobs(jobs, partial(_write_adult, part), workers)
        cohort_files.write_tables(part, written, COLUMNS, n, progress)
        if sheet:
            cohort_files.write_sheet(part)
    return out / "cohort.csv"


def _write_adult(out: Path, job: AdultJob) -> list[cohort_files.WrittenPhotograph]:
    seed = int(np.random.SeedSequence([job.seed, job.number, 9]).generate_state(1)[0])
    photograph = adult(seed, camera=job.camera, size=job.size)
    truth, name = photograph.truth, f"a{job.number:05d}"
    row: cohort_files.Row = {
        "image": f"images/{name}.jpg",
        "eye": truth.eye,
        "camera": truth.camera,
        "level": truth.level,
        "crossings": len(truth.crossings),
        "worst_grade": max((crossing.grade for crossing in truth.crossings), default=0),
        "seed": seed,
    }
    written = cohort_files.write_photograph(out, name, photograph, row, {})
    return [replace(written, patches=write_patches(out, name, photograph))]
