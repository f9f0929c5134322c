"""A cohort of infants: two eyes each, several views an eye, born and weighed as their disease suggests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from fundoscope.simulate import cameras, cohort, infants
from fundoscope.simulate.cameras import Camera
from fundoscope.simulate.truth import Findings

COLUMNS = (
    "image", "label", "treatment_requiring", "infant", "eye", "exam", "stage", "zone", "plus",
    "gestational_age", "birth_weight", "camera", "level", "aim", "eye_label", "eye_treatment_requiring",
    "eye_stage", "eye_zone", "eye_plus", "seed",
)  # fmt: skip

DISEASE_SHARES = (0.5, 0.3, 0.2)  # of infants: normal, ROP, treatment-requiring ROP

# Weeks and their deviation by disease, near those of screened infants (Hellström et al. 2013, Lancet 382:1445)
_WEEKS = {"normal": (31.0, 2.3), "rop": (28.3, 1.9), "treatment-requiring": (25.8, 1.5)}
# Median birth weight by completed weeks (Fenton and Kim 2013, BMC Pediatr 13:59), both sexes, grams
_MEDIAN_WEIGHT = ((22, 24, 26, 28, 30, 32, 34, 36, 38), (480, 650, 850, 1080, 1400, 1770, 2220, 2700, 3150))


@dataclass(frozen=True, slots=True)
class InfantJob:
    """One infant: its number, how many photographs are still wanted, and how they are to be taken."""

    seed: int
    number: int
    wanted: int
    camera: str | None
    size: int | None


def write_infants(
    n: int,
    out: str | Path,
    seed: int = 0,
    workers: int = 1,
    sheet: bool = False,
    *,
    camera: str | None = None,
    size: int | None = None,
    progress: cohort.Progress | None = None,
) -> Path:
    """Write `n` photographs of infants' eyes, with their truth, into the folder `out`; gives `cohort.csv`'s path.

    Two eyes an infant and two to four views an eye, until `n` is reached. `sheet` adds `sheet.png` with 24 eyes.
    Raises `UsageError` where the folder already holds a cohort.
    """
    out = Path(out)
    cohort.prepare(out, n, workers)
    taken = cohort.run(_jobs(n, seed, camera, size), partial(_write_infant, out), workers)
    cohort.write_tables(out, taken, COLUMNS, n, progress)
    if sheet:
        from fundoscope.simulate.sheet import write_sheet

        write_sheet(out)
    return out / "cohort.csv"


def _jobs(n: int, seed: int, camera: str | None, size: int | None) -> Iterator[InfantJob]:
    number = 0
    while n > 0:
        yield InfantJob(seed, number, n, camera, size)
        n -= sum(_views(seed, number))
        number += 1


def _views(seed: int, number: int) -> tuple[int, int]:
    """Photographs of the right and of the left eye."""
    right, left = np.random.default_rng([seed, number, 0]).integers(2, 5, 2)
    return int(right), int(left)


def _write_infant(out: Path, job: InfantJob) -> list[cohort.Taken]:
    """Draw, photograph and store one infant."""
    ill, shot = (np.random.default_rng([job.seed, job.number, k]) for k in (1, 2))
    disease = infants.DISEASES[int(ill.choice(3, p=DISEASE_SHARES))]
    both = _both_eyes(disease, ill)
    weeks, grams = _birth(disease, ill)
    camera = infants.draw_camera(shot) if job.camera is None else cameras.camera_named(job.camera, infant=True)
    cast = cameras.draw_cast(shot)
    person: cohort.Row = {"infant": f"i{job.number:05d}", "gestational_age": weeks, "birth_weight": grams}
    taken: list[cohort.Taken] = []
    sides: tuple[Literal["right", "left"], ...] = ("right", "left")
    for k, side in enumerate(sides):
        eye = infants.grow_eye(_eye_seed(job, k), both[k], side, coat_seed=_eye_seed(job, 2))
        for aim in _aims(_views(job.seed, job.number)[k], shot):
            if len(taken) < job.wanted:
                taken.append(_take(out, eye, camera.resized(job.size), cast, aim, person, len(taken), shot))
    return taken


def _eye_seed(job: InfantJob, k: int) -> int:
    return int(np.random.SeedSequence([job.seed, job.number, 7, k]).generate_state(1)[0])


def _both_eyes(disease: infants.Disease, rng: np.random.Generator) -> tuple[Findings, Findings]:
    """Two eyes of one infant are mostly alike; in one infant in four the second is a stage milder."""
    first = infants.draw_findings(disease, rng)
    milder = rng.random() < 0.25
    swap = rng.random() < 0.5
    second = first
    if milder and first.stage > 0:
        second = replace(first, stage=first.stage - 1, plus="none") if first.stage > 1 else Findings()
    return (second, first) if swap else (first, second)


def _birth(disease: infants.Disease, rng: np.random.Generator) -> tuple[float, int]:
    """Gestational age in weeks and birth weight in grams."""
    mean, deviation = _WEEKS[disease]
    weeks = float(np.clip(rng.normal(mean, deviation), 22.5, 37.5))
    grams = np.interp(weeks, *_MEDIAN_WEIGHT) * rng.lognormal(0, 0.16)
    return round(weeks, 1), round(float(grams) / 5) * 5


def _aims(n: int, rng: np.random.Generator) -> list[str]:
    """A posterior view, a temporal one, and the rest at random: the same for every disease."""
    rest = [tuple(infants.AIMS)[int(k)] for k in rng.choice(len(infants.AIMS), 2, p=infants.AIM_SHARES)]
    return ["posterior", "temporal", *rest][:n]


def _take(
    out: Path,
    eye: infants.InfantEye,
    camera: Camera,
    cast: tuple[float, float, float],
    aim: str,
    person: cohort.Row,
    number: int,
    rng: np.random.Generator,
) -> cohort.Taken:
    exposure = cameras.expose(camera, infants.draw_level(rng), cast, rng)
    photograph = infants.take(eye, exposure, infants.draw_projection(exposure, aim, eye.side, rng), aim)
    name = f"{person['infant']}_{eye.side}_{number:02d}_{aim}"
    seen = _findings_row(photograph.truth.seen)
    whole = _findings_row(eye.findings)
    shot = {"image": f"images/{name}.jpg", "eye": eye.side, "exam": "1", "camera": camera.name, "aim": aim}
    row = shot | seen | person | {"level": photograph.truth.level, "seed": eye.seed}
    row |= {f"eye_{key}": value for key, value in whole.items()}
    return cohort.store(out, name, photograph, row, person | {"eye": eye.side, "seed": eye.seed} | whole)


def _findings_row(findings: Findings) -> cohort.Row:
    return {
        "label": findings.label,
        "treatment_requiring": "yes" if findings.treatment_requiring else "no",
        "stage": findings.stage,
        "zone": "" if findings.zone is None else findings.zone,
        "plus": findings.plus,
    }
