"""What the crossing task hands down: a network of maps, a detector's weights, and which photographs these have seen.

A folder holds `seen.json` (names of photographs, as in a table's `photograph`), `maps/` (a bundle; the shipped one where there
is none), and, where weights are to be handed down, `detector.safetensors` (a crossing detector).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from fundoscope.bundles.card import CrossingSettings
from fundoscope.bundles.read_nicking import NickingBundle, open_nicking_bundle
from fundoscope.errors import LeakError, UsageError
from fundoscope.networks.mask_rcnn import CrossingDetector
from fundoscope.networks.nick_grader import NickGrader
from fundoscope.studies import write_json

DETECTOR, SEEN = "detector.safetensors", "seen.json"
_THREADS = 1


@dataclass(frozen=True)
class Upstream:
    """One that was trained: `seen_photographs` are the photographs that it must not be asked about."""

    name: str
    bundle: NickingBundle
    seen_photographs: frozenset[str] = frozenset()
    detector: Path | None = None

    @classmethod
    def read(cls, folder: Path) -> Upstream:
        """Read a folder; `UsageError` where it is none."""
        seen = read_seen_photographs(folder)
        maps, detector = folder / "maps", folder / DETECTOR
        own = cls.from_bundle(maps if maps.exists() else "nicking")
        return cls(folder.name, own.bundle, seen | own.seen_photographs, detector if detector.exists() else None)

    @classmethod
    def from_bundle(cls, bundle: str | Path = "nicking") -> Upstream:
        """The maps of a bundle, which has seen public sets only, and no weights to transfer."""
        found = open_nicking_bundle(bundle, _THREADS)
        return cls("shipped", found, frozenset(found.card.photographs))

    @property
    def map_settings(self) -> CrossingSettings:
        """How its maps are read."""
        return self.bundle.card.crossings

    def transfer_weights(self, grader: NickGrader) -> None:
        """Give the grader's streams the detector's weights, as far as they have the same name and shape.

        Raises `UsageError` where there is no detector.
        """
        if self.detector is None:
            raise UsageError(f"The upstream '{self.name}' has no {DETECTOR}. Give another, or leave transfer out.")
        given = {name.removeprefix("backbone."): value for name, value in load_file(self.detector).items()}
        for stream in grader.streams:
            own = stream.state_dict()
            fitting = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
            stream.load_state_dict({**own, **fitting})


def read_seen_photographs(folder: Path) -> frozenset[str]:
    """Names of the photographs that what is in a folder has seen; `UsageError` where it does not say."""
    path = folder / SEEN
    try:
        return frozenset(map(str, json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}). Give a folder that the crossing task wrote.") from error


def write_upstream(folder: Path, seen: Iterable[str], detector: CrossingDetector | None) -> None:
    """Write what stands beside `folder`/maps."""
    folder.mkdir(parents=True, exist_ok=True)
    if detector is not None:
        state = {name: value.contiguous() for name, value in detector.state_dict().items()}
        save_file(state, folder / DETECTOR)
    write_json(folder / SEEN, sorted(seen))


def upstreams_free_of(upstreams: Sequence[Upstream], photograph: str) -> tuple[int, ...]:
    """Which upstreams have not seen a photograph; `LeakError` where all have."""
    free = tuple(k for k, each in enumerate(upstreams) if photograph not in each.seen_photographs)
    if not free:
        names = ", ".join(each.name for each in upstreams)
        raise LeakError(
            f"{photograph} was seen by every upstream ({names}), so its patches cannot be tested. Give one that has not seen it."
        )
    return free
