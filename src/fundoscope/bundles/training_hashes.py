"""`training_hashes.json` of a bundle: perceptual hashes of the photographs that it learnt from, and no picture.

With them an evaluation can tell that a cohort holds photographs which the bundle knows, and name them.
"""

from __future__ import annotations

import json
from pathlib import Path

from fundoscope.bundles.card import BaseCard, Card
from fundoscope.bundles.folder import rewrite_card
from fundoscope.bundles.read import checked_bytes
from fundoscope.cohort.photograph_hashes import BITS, PhotographHashes
from fundoscope.errors import BundleError

HASHES_FILE = "training_hashes.json"
_WHAT = "random projections of the coarse fingerprints of fundoscope.cohort"


def write_training_hashes(folder: Path, hashes: PhotographHashes) -> Card:
    """Add the hashes to a classifier's bundle, or replace its hashes; its networks stay byte for byte. Returns the card.

    Raises `BundleError` for a bundle that is broken or of another task.
    """
    values = {"what": _WHAT, "bits": BITS, "hashes": hashes.as_text()}
    return rewrite_card(folder, {}, added={HASHES_FILE: json.dumps(values, indent=0) + "\n"})


def read_training_hashes(folder: Path, card: BaseCard) -> PhotographHashes | None:
    """The hashes of a bundle's training photographs; None where it carries none, so that nothing can be looked up.

    Raises `BundleError` where the file was changed, or is of a kind that this program does not know.
    """
    if HASHES_FILE not in card.files:
        return None
    try:
        values = json.loads(checked_bytes(folder, HASHES_FILE, card))
        if values["what"] != _WHAT or values["bits"] != BITS:
            raise ValueError(f"hashes of another kind: {values['what']}, {values['bits']} bits")
        return PhotographHashes.from_text(values["hashes"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{folder / HASHES_FILE} cannot be used ({error}). Upgrade fundoscope, or make the bundle anew."
        ) from error
