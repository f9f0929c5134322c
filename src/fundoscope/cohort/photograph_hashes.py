"""Perceptual hashes: 128 bytes that tell whether a photograph was seen before, and show nothing of it.

A hash is made of the audit's coarse fingerprint (`fingerprints`): each bit is the side of one random plane on which the
fingerprint lies. The share of bits in which two hashes differ is the angle between the two fingerprints divided by pi
(Charikar 2002; Goemans and Williamson 1995, lemma 3.2), so a correlation can be read from it, with an error of about .03,
and no picture. A copy is found re-encoded, brightened, darkened, turned or mirrored, as the audit finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort.fingerprints import COARSE, TURNS, Fingerprint, Grey, apply_turn, fingerprint
from fundoscope.cohort.near_duplicates import COPY
from fundoscope.cohort.registration import rotation_about_centre, warp_square
from fundoscope.imaging import read

BITS = 1024
_SCALES = (0.9, 1.1)  # tried too where the rim of the field was not found: there a crop changes the scale

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SeenBefore:
    """A photograph that was hashed before: `number` of the hash, from 0, how the photograph is turned against it
    (`TURNS[turn]`), and the `similarity` of the two, a correlation from `COPY` to 1.
    """

    number: int
    turn: int
    similarity: float


@dataclass(frozen=True, slots=True, eq=False)
class PhotographHashes:
    """The hashes of photographs, `bits` (m, 128) uint8, a row a photograph."""

    bits: Bytes

    @classmethod
    def of_photographs(cls, paths: Iterable[Path]) -> PhotographHashes:
        """The hashes of photographs, which are read one by one; raises `PhotographError` for one that cannot be read."""
        made = [_hash_square(fingerprint(read(path)).coarse) for path in paths]
        return cls(np.stack(made) if made else np.empty((0, BITS // 8), np.uint8))

    @classmethod
    def from_text(cls, lines: Sequence[str]) -> PhotographHashes:
        """The hashes that `as_text` wrote; `ValueError` for a line that is no hash."""
        rows = [np.frombuffer(bytes.fromhex(line), np.uint8) for line in lines]
        if any(len(row) != BITS // 8 for row in rows):
            raise ValueError(f"a hash has {BITS // 4} hexadecimal digits")
        return cls(np.stack(rows) if rows else np.empty((0, BITS // 8), np.uint8))

    def as_text(self) -> list[str]:
        """Each hash as 256 hexadecimal digits."""
        return [row.tobytes().hex() for row in self.bits]

    def __len__(self) -> int:
        return len(self.bits)

    def find(self, photograph: Fingerprint) -> SeenBefore | None:
        """The hash of which the photograph is a copy, the most similar one; None where it is a copy of none.

        A photograph without any detail is like none.
        """
        if not len(self) or not photograph.coarse.any():
            return None
        scales = (1.0,) if photograph.field else (1.0, *_SCALES)
        best = SeenBefore(0, 0, -1.0)
        for turn in range(len(TURNS)):
            square = apply_turn(photograph.coarse, turn)
            for scale in scales:
                scaled = square if scale == 1 else warp_square(square, rotation_about_centre(scale, 0, COARSE))
                similarity = self._similarities(_hash_square(scaled))
                number = int(similarity.argmax())
                if similarity[number] > best.similarity:
                    best = SeenBefore(number, turn, float(similarity[number]))
        return best if best.similarity >= COPY else None

    def _similarities(self, other: Bytes) -> NDArray[np.float64]:
        """The correlation of one hash with each, (m,)."""
        differing = np.unpackbits(self.bits ^ other, axis=1).mean(axis=1)
        empty = ~self.bits.any(axis=1)  # of a photograph without any detail
        return np.where(empty, -1.0, np.cos(np.pi * differing))


def _hash_square(coarse: Grey) -> Bytes:
    """The hash (128,) of a coarse fingerprint (64, 64); all zero where it has no detail."""
    return np.packbits(_planes() @ coarse.reshape(-1) > 0)


@cache
def _planes() -> NDArray[np.float32]:
    """The normals of the planes, (1024, 4096), 1 and -1: the bits of PCG64 with seed 0, a stream that NumPy keeps for good."""
    words = np.random.PCG64(0).random_raw(BITS * COARSE * COARSE // 64).astype("<u8")
    signs = np.unpackbits(words.view(np.uint8)).reshape(BITS, COARSE * COARSE)
    return signs.astype(np.float32) * 2 - 1
