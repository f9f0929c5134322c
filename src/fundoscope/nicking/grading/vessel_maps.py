"""Step 1: a photograph to its vessel maps; which vessels are arteries and which veins; the optic disc. No torch.

The maps are made at one scale: the field's diameter is brought to DRIVE's 540 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.card import CrossingSettings
from fundoscope.bundles.read_nicking import NickingBundle
from fundoscope.imaging import Pixels, Prepared
from fundoscope.imaging.field import shrunk
from fundoscope.imaging.local_contrast import DIAMETER, local_contrast
from fundoscope.vessels.artery_vein import ArteryVeinMap, VoteWeights, classify_vessels
from fundoscope.vessels.disc import Disc, find_disc

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class MappedPhotograph:
    """A photograph and its vessels.

    `pixels` (h, w, 3), uint8, RGB, are the file's. All else is at the maps' scale: `maps` (4, rows, columns), the
    probabilities of vessel, artery, vein and crossing; `inside` (rows, columns), the pixels of the field;
    `artery_vein`, the graph and the masks of arteries and veins. `scale` is how many of the file's pixels make one
    pixel of the maps.
    """

    pixels: Pixels
    maps: NDArray[np.float32]
    inside: Mask
    artery_vein: ArteryVeinMap
    scale: float = 1.0

    @cached_property
    def disc(self) -> Disc | None:
        """The optic disc at the maps' scale; None where no vessel is seen."""
        rows, columns = self.inside.shape
        return find_disc(self.artery_vein.graph, self.inside, shrunk(self.pixels, (rows, columns)))


def map_photograph(photograph: Prepared, bundle: NickingBundle) -> MappedPhotograph:
    """The vessels of a photograph by the network of a bundle."""
    pixels = photograph.pixels
    small, inside = photograph.whole(DIAMETER)
    maps = bundle.map_vessels(local_contrast(small, inside)) * inside
    artery_vein = classify_map_vessels(maps, bundle.card.crossings)
    return MappedPhotograph(pixels, maps, inside, artery_vein, pixels.shape[0] / small.shape[0])


def classify_map_vessels(maps: NDArray[np.float32], settings: CrossingSettings) -> ArteryVeinMap:
    """Arteries and veins of maps (4, rows, columns), by the vessel threshold and the votes of a bundle's settings."""
    return classify_vessels(maps[0] >= settings.vessel_threshold, maps[1], maps[2], VoteWeights(**settings.votes))
