"""Write a cohort of infants: two eyes each, several views an eye, gestational age and birth weight as with their disease."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fundoscope.simulate import cameras, cohort_files, infants
from fundoscope.simulate.truth import Findings, Side, SimulatedPhotograph

COLUMNS = (
    "image", "label", "treatment_requiring", "infant", "eye", "exam", "stage", "zone", "plus",
    "gestational_age", "birth_weight", "camera", "level", "aim", "eye_label", "eye_treatment_requiring",
    "eye_stage", "eye_zone", "eye_plus", "seed",
)  # fmt: skip

DISEASE_SHARES = (0.5, 0.3, 0.2)  # of infants: normal, ROP, treatment-requiring ROP

# Weeks and their standard deviation by disease, near those of screened infants (Hellström et al. 2013, Lancet 382:1445)
_WEEKS = {"normal": (31.0, 2.3), "rop": (28.3, 1.9), "treatment-requiring": (25.8, 1.5)}
# Median birth weight by completed weeks (Fenton and Kim 2013, BMC Pediatr 13:59), both sexes, grams
_MEDIAN_WEIGHT = ((22, 24, 26, 28, 30, 32, 34, 36, 38), (480, 650, 850, 1080, 1400, 1770, 2220, 2700, 3150))


@dataclass(frozen=True, slots=True)
class InfantJob:
    """One infant to make: the cohort's `seed`, its number, how many photographs are still wanted, and the options that
    were asked for.
    """

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
    progress: cohort_files.Progress | None = None,
) -> Path:
    """Write `n` photographs of infants' eyes, with their truth, into the folder `out`; returns the path of `cohort.csv`.

    Two eyes an infant and two to four views an eye, until `n` is reached. `sheet` adds `sheet.png` with 24 eyes. Raises
    `UsageError` for a count below one and for a folder that already holds a cohort.
    """
    out = Path(out)
    with cohort_files.cohort_folder(out, "simulate infants", n, workers) as part:
        written = cohort_files.run_jobs(_jobs(n, seed, camera, size), partial(_write_infant, part), workers)
        cohort_files.write_tables(part, written, COLUMNS, n, progress)
        if sheet:
            cohort_files.write_sheet(part)
    return out / "cohort.csv"


def _jobs(n: int, seed: int, camera: str | None, size: int | None) -> Iterator[InfantJob]:
    """Infants until `n` photographs are reached."""
    number = 0
    while n > 0:
        yield InfantJob(seed, number, n, camera, size)
        n -= sum(_views_of_eyes(seed, number))
        number += 1


def _views_of_eyes(seed: int, number: int) -> tuple[int, int]:
    """Number of photographs of the right and of the left eye of an infant, 2 to 4 each."""
    right, left = np.random.default_rng([seed, number, 0]).integers(2, 5, 2)
    return int(right), int(left)


def _write_infant(out: Path, job: InfantJob) -> list[cohort_files.WrittenPhotograph]:
    """Grow, photograph and write one infant."""
    disease_rng, shot_rng = (np.random.default_rng([job.seed, job.number, k]) for k in (1, 2))
    disease = infants.DISEASES[int(disease_rng.choice(3, p=DISEASE_SHARES))]
    findings = _draw_both_eyes(disease, disease_rng)
    weeks, grams = _draw_birth(disease, disease_rng)
    camera = infants.draw_camera(shot_rng) if job.camera is None else cameras.camera_named(job.camera, infant=True)
    cast = cameras.draw_cast(shot_rng)
    person: cohort_files.Row = {"infant": f"i{job.number:05d}", "gestational_age": weeks, "birth_weight": grams}
    written: list[cohort_files.WrittenPhotograph] = []
    sides: tuple[Side, ...] = ("right", "left")
    for k, side in enumerate(sides):
        if len(written) == job.wanted:
            break
        eye = infants.grow_eye(_eye_seed(job, k), findings[k], side, appearance_seed=_eye_seed(job, 2))
        for aim in _draw_aims(_views_of_eyes(job.seed, job.number)[k], shot_rng):
            if len(written) == job.wanted:
                break
            exposure = cameras.draw_exposure(camera.resized(job.size), infants.draw_level(shot_rng), cast, shot_rng)
            projection = infants.draw_projection(exposure, aim, side, shot_rng)
            photograph = infants.photograph_eye(eye, exposure, projection, aim)
            written.append(_write_view(out, eye, photograph, person, len(written)))
    return written


def _eye_seed(job: InfantJob, k: int) -> int:
    return int(np.random.SeedSequence([job.seed, job.number, 7, k]).generate_state(1)[0])


def _draw_both_eyes(disease: infants.Disease, rng: np.random.Generator) -> tuple[Findings, Findings]:
    """Findings of the right and the left eye: mostly alike, but in one infant in four one eye is a stage milder."""
    first = infants.draw_findings(disease, rng)
    milder = rng.random() < 0.25
    swap = rng.random() < 0.5
    second = first
    if milder and first.stage > 0:
        second = replace(first, stage=first.stage - 1, plus="none") if first.stage > 1 else Findings()
    return (second, first) if swap else (first, second)


def _draw_birth(disease: infants.Disease, rng: np.random.Generator) -> tuple[float, int]:
    """Gestational age in weeks and birth weight in grams."""
    mean, deviation = _WEEKS[disease]
    weeks = float(np.clip(rng.normal(mean, deviation), 22.5, 37.5))
    grams = np.interp(weeks, *_MEDIAN_WEIGHT) * rng.lognormal(0, 0.16)
    return round(weeks, 1), round(float(grams) / 5) * 5


def _draw_aims(n: int, rng: np.random.Generator) -> list[str]:
    """Names of `n` aims: a posterior view, a temporal one, and the rest at random, the same for every disease."""
    rest = [tuple(infants.AIMS)[int(k)] for k in rng.choice(len(infants.AIMS), 2, p=infants.AIM_SHARES)]
    return ["posterior", "temporal", *rest][:n]


def _write_view(
    out: Path, eye: infants.InfantEye, photograph: SimulatedPhotograph, person: cohort_files.Row, number: int
) -> cohort_files.WrittenPhotograph:
    """Write one photograph of an infant's eye; `person` holds the columns that all photographs of the infant share."""
    truth = photograph.truth
    name = f"{person['infant']}_{eye.side}_{number:02d}_{truth.aim}"
    shot = {"image": f"images/{name}.jpg", "eye": eye.side, "exam": "1", "camera": truth.camera, "aim": truth.aim}
    row = shot | _findings_row(truth.in_view) | person | {"level": truth.level, "seed": eye.seed}
    row |= {f"eye_{key}": value for key, value in _findings_row(eye.findings).items()}
    eye_row = person | {"eye": eye.side, "seed": eye.seed} | _findings_row(eye.findings)
    return cohort_files.write_photograph(out, name, photograph, row, eye_row)


def _findings_row(findings: Findings) -> cohort_files.Row:
    """Findings as columns of cohort.csv and eyes.csv."""
    return {
        "label": findings.label,
        "treatment_requiring": "yes" if findings.treatment_requiring else "no",
        "stage": findings.stage,
        "zone": "" if findings.zone is None else findings.zone,
        "plus": findings.plus,
    }
