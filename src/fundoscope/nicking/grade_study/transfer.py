"""What the crossing task gives the study of grades: a network of vessel maps, a detector's weights, and what these have seen.

UPSTREAM/seen.json               names of the photographs, as in the column `photograph` of a patch table
UPSTREAM/maps/                   a bundle with the network of maps; where there is none the shipped one is taken
UPSTREAM/detector.safetensors    weights of a crossing detector, where they are to be transferred
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from safetensors.torch import load_file, save_file

from fundoscope.bundles.card import CrossingSettings
from fundoscope.bundles.read_nicking import NickingBundle, open_nicking_bundle
from fundoscope.errors import LeakError, UsageError
from fundoscope.networks.mask_rcnn import CrossingDetector
from fundoscope.networks.nick_grader import NickGrader
from fundoscope.studies import write_json

#: Share of a stream's parameters that must come from the detector: with fewer, nothing to speak of was transferred.
LEAST_TRANSFERRED = 0.5

DETECTOR, SEEN = "detector.safetensors", "seen.json"
_THREADS = 1


@dataclass(frozen=True)
class Upstream:
    """What was trained on the crossing task. Patches of `seen_photographs` must not be tested with it."""

    name: str
    bundle_folder: str | Path
    seen_photographs: frozenset[str] = frozenset()
    detector: Path | None = None

    @property
    def bundle(self) -> NickingBundle:
        """The bundle of its maps, opened once a process: an upstream is passed on without it."""
        return _open_bundle(self.bundle_folder)

    @classmethod
    def read(cls, folder: Path) -> Upstream:
        """The upstream in a folder; `UsageError` where it does not say which photographs it has seen."""
        seen = read_seen_photographs(folder)
        maps, detector = folder / "maps", folder / DETECTOR
        own = cls.from_bundle(maps if maps.exists() else "nicking")
        return replace(
            own, name=folder.name, seen_photographs=seen | own.seen_photographs,
            detector=detector if detector.exists() else None,
        )  # fmt: skip

    @classmethod
    def from_bundle(cls, bundle: str | Path = "nicking") -> Upstream:
        """The maps of a bundle, with the photographs that its card names, and no weights to transfer."""
        return cls("shipped", bundle, frozenset(_open_bundle(bundle).card.photographs))

    @property
    def map_settings(self) -> CrossingSettings:
        """Thresholds and weights by which its maps are read."""
        return self.bundle.card.crossings

    def transfer_weights(self, grader: NickGrader) -> float:
        """Copy the detector's weights into each stream of the grader where name and shape are the same; returns the share
        of the streams' parameters that came from it.

        Raises `UsageError` where there is no detector, or where less than `LEAST_TRANSFERRED` of the parameters fit.
        """
        if self.detector is None:
            raise UsageError(f"The upstream '{self.name}' has no {DETECTOR}. Give another, or leave transfer out.")
        given = {name.removeprefix("backbone."): value for name, value in load_file(self.detector).items()}
        own = grader.streams[0].state_dict()  # all streams are built alike
        fitting = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
        share = sum(value.numel() for value in fitting.values()) / sum(value.numel() for value in own.values())
        if share < LEAST_TRANSFERRED:
            raise UsageError(
                f"Of the detector of upstream '{self.name}' only {len(fitting)} of {len(own)} tensors ({share:.1%} of the "
                f"parameters) fit a stream with the body '{grader.options.body}'. Train the detector with the same body "
                "and as many maps, choose a recipe with the detector's, or leave transfer out."
            )
        for stream in grader.streams:
            stream.load_state_dict({**stream.state_dict(), **fitting})
        return share


@cache
def _open_bundle(folder: str | Path) -> NickingBundle:
    return open_nicking_bundle(folder, _THREADS)


def read_seen_photographs(folder: Path) -> frozenset[str]:
    """Names of the photographs that the upstream in a folder has seen; `UsageError` where it does not say."""
    path = folder / SEEN
    try:
        return frozenset(map(str, json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}). Give a folder that the crossing task wrote.") from error


def write_upstream(folder: Path, seen: Iterable[str], detector: CrossingDetector | None) -> None:
    """Write seen.json of an upstream's folder, and its detector's weights where there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    if detector is not None:
        state = {name: value.contiguous() for name, value in detector.state_dict().items()}
        save_file(state, folder / DETECTOR)
    write_json(folder / SEEN, sorted(seen))


def upstreams_free_of(upstreams: Sequence[Upstream], photograph: str) -> tuple[int, ...]:
    """Numbers of the upstreams that have not seen a photograph; `LeakError` where all have."""
    free = tuple(k for k, each in enumerate(upstreams) if photograph not in each.seen_photographs)
    if not free:
        names = ", ".join(each.name for each in upstreams)
        raise LeakError(
            f"{photograph} was seen by every upstream ({names}), so its patches cannot be tested. Give one that has not seen it."
        )
    return free
