"""Do photographs look like those that a grader learnt from? Told without labels, from measurements of light, colour and detail.

Of each photograph some forty measurements of the quality verdict are taken (`imaging.measures`); the distance to the training
photographs is Mahalanobis', with a covariance that is shrunk as Ledoit and Wolf (2004) propose, since there are few training
photographs. How far is far comes from training photographs themselves, each measured by a reference that left its group out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fundoscope.errors import ControlError
from fundoscope.evaluation.metrics.intervals import group_codes

Array = NDArray[np.float64]

#: The measurements, by what they tell of. Those of place and size are left out: cameras are cut in many ways.
LIKENESS_FAMILIES: dict[str, tuple[str, ...]] = {
    "light": ("brightness", "bright_end", "entropy"),
    "colour": ("red_green", "green_blue", "hue_short", "hue_long",
               "red_follows", "red_agrees", "blue_follows", "blue_agrees"),
    "sharpness": ("steep_50", "steep_90", "steep_99", "flat", "band0", "band1", "band2", "band3",
                  "slope01", "slope12", "slope23", "tails0", "tails1", "tails2", "tails3"),
    "vessels": ("dark0_95", "dark1_95", "dark2_95", "dark1_70", "bright1_95",
                "calibre01_95", "calibre12_95", "coherence"),
    "spots": ("spot1", "spot2", "spot3", "pit1", "pit2", "pit3"),
}  # fmt: skip

LIKENESS_FEATURES: tuple[str, ...] = tuple(name for names in LIKENESS_FAMILIES.values() for name in names)

#: Share of the training photographs that are nearer than the limit.
NEAR = 0.95

#: Photographs look unlike where more than this share lies beyond the limit, and so many are beyond it by chance in at most one
#: of twenty sets: our choice. One photograph beyond the limit is enough where there is only one.
MAX_SHARE_BEYOND, MAX_CHANCE = 0.25, 0.05

MIN_PHOTOGRAPHS = 20  # of training, without which there is no reference
_PARTS = 10  # of the training photographs, each measured by a reference of the others
_REACH = 8.0  # deviations from the mean at which a measurement is cut
_DIGITS = 6


@dataclass(frozen=True, slots=True, eq=False)
class LikenessReference:
    """What the training photographs look like: the measurements `names` (K), their `mean` and `deviation` (K,), and `whitening`
    (K, K), with which the standardised measurements z have the distance |whitening z| / sqrt(K), about 1.

    A photograph beyond `limit` is further away than `NEAR` of the n training photographs are from the others. `refused` and
    `called` are the shares of these that screening refuses and (of the graded) calls ROP; `quality` is their median quality.
    """

    names: tuple[str, ...]
    mean: Array
    deviation: Array
    whitening: Array
    limit: float
    n: int
    refused: float = math.nan
    called: float = math.nan
    quality: float = math.nan

    def distances(self, table: Array) -> Array:
        """Distances of photographs (n,) by their measurements (n, K) in the order of `names`."""
        z = np.clip((table - self.mean) / self.deviation, -_REACH, _REACH)
        return np.sqrt(((z @ self.whitening.T) ** 2).mean(axis=1))

    def distance(self, measures: Mapping[str, float]) -> float:
        """The distance of one photograph by its measurements."""
        return float(self.distances(np.array([[measures[name] for name in self.names]], float))[0])

    def to_json(self) -> dict[str, Any]:
        """Plain values, numbers with six digits; a share that is unknown is None."""
        values = asdict(self) | {name: _rounded(getattr(self, name)) for name in ("mean", "deviation", "whitening")}
        return {name: None if isinstance(each, float) and math.isnan(each) else each for name, each in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LikenessReference:
        """The reference that `to_json` gave; `KeyError`, `TypeError` or `ValueError` where it is none."""
        shares = {name: math.nan if values[name] is None else float(values[name]) for name in _SHARES}
        names = tuple(map(str, values["names"]))
        mean, deviation, whitening = (np.array(values[name], float) for name in ("mean", "deviation", "whitening"))
        if mean.shape != (len(names),) or deviation.shape != mean.shape or whitening.shape != 2 * mean.shape:
            raise ValueError(f"{len(names)} measurements do not fit arrays {mean.shape} and {whitening.shape}")
        return cls(names, mean, deviation, whitening, float(values["limit"]), int(values["n"]), **shares)


_SHARES = ("refused", "called", "quality")


def fit_likeness(
    measures: Sequence[Mapping[str, float]], groups: Sequence[object] | None = None, **shares: float
) -> LikenessReference:
    """The reference of training photographs by their measurements; `shares` are those of `LikenessReference`.

    `groups` name photographs that must stay together when some are left out. Raises `ControlError` for fewer than
    `MIN_PHOTOGRAPHS`.
    """
    if len(measures) < MIN_PHOTOGRAPHS:
        raise ControlError(
            f"{len(measures)} photographs are too few to tell what photographs of the same kind look like: {MIN_PHOTOGRAPHS} are needed."
        )
    table = np.array([[each[name] for name in LIKENESS_FEATURES] for each in measures], float)
    varies = table.std(axis=0) > 1e-9
    names, table = tuple(np.array(LIKENESS_FEATURES)[varies].tolist()), table[:, varies]
    codes = group_codes(groups, len(table))
    order = np.random.default_rng(0).permutation(int(codes.max()) + 1)
    part = order[codes] % _PARTS
    left_out = np.concatenate([
        _fit(names, table[part != number]).distances(table[part == number]) for number in np.unique(part)
    ])  # fmt: skip
    found = _fit(names, table)
    limit = float(np.quantile(left_out, NEAR, method="higher"))
    return LikenessReference(
        names, found.mean, found.deviation, found.whitening, round(limit, _DIGITS), len(table), **shares
    )


def _fit(names: tuple[str, ...], table: Array) -> LikenessReference:
    """The reference of measurements (n, K) without a limit."""
    mean, deviation = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-9)
    z = np.clip((table - mean) / deviation, -_REACH, _REACH)
    return LikenessReference(names, mean, deviation, _whitening(z - z.mean(axis=0)), math.inf, len(table))


def _whitening(z: Array) -> Array:
    """The matrix W (K, K) with W'W the inverse of the shrunk covariance of centred z (n, K): Ledoit and Wolf (2004), section 3.2."""
    n, k = z.shape
    covariance = z.T @ z / n
    scale = np.trace(covariance) / k
    away = ((covariance - scale * np.eye(k)) ** 2).sum()
    noise = (((z**2).sum(axis=1) ** 2).sum() / n - (covariance**2).sum()) / n  # of the covariance itself
    shrink = float(np.clip(noise / away, 0.0, 1.0)) if away > 0 else 1.0
    values, vectors = np.linalg.eigh((1 - shrink) * covariance + shrink * scale * np.eye(k))
    return (vectors / np.sqrt(np.maximum(values, 1e-9))).T


def _rounded(values: Array) -> Any:
    return [_rounded(row) for row in values] if values.ndim > 1 else [float(f"{each:.{_DIGITS}g}") for each in values]


@dataclass(frozen=True, slots=True)
class LikenessVerdict:
    """How many of `n` photographs lie `beyond` the limit of a reference, and whether they therefore look `unlike`."""

    n: int
    beyond: int
    unlike: bool

    @property
    def share(self) -> float:
        """The share beyond the limit; nan without photographs."""
        return self.beyond / self.n if self.n else math.nan


def judge_likeness(distances: ArrayLike, limit: float) -> LikenessVerdict:
    """The verdict on photographs by their distances (n,); see `MAX_SHARE_BEYOND`."""
    each = np.asarray(distances, float)
    return judge_beyond(len(each), int((each > limit).sum()))


def judge_beyond(n: int, beyond: int) -> LikenessVerdict:
    """The verdict on n photographs of which so many lie beyond the limit."""
    from scipy.special import betainc

    if not n or beyond <= MAX_SHARE_BEYOND * n:
        return LikenessVerdict(n, beyond, False)
    chance = float(betainc(beyond, n - beyond + 1, 1 - NEAR))  # P(Binomial(n, 1 - NEAR) >= beyond)
    return LikenessVerdict(n, beyond, chance <= MAX_CHANCE + 1e-9)
