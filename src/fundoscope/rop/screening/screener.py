"""The way of one photograph: read, judged, standardised, graded. No torch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles import Bundle
from fundoscope.bundles.card import Stage
from fundoscope.evaluation.likeness import LikenessReference
from fundoscope.findings import GradedPhotograph, PhotographSource, RopFinding, Status, VascularFinding, join_remarks
from fundoscope.imaging import Frame, Pixels, Prepared
from fundoscope.imaging.local_contrast import DIAMETER
from fundoscope.imaging.prepared import OVERSAMPLING
from fundoscope.imaging.quality import judge_quality
from fundoscope.imaging.sources import load_source
from fundoscope.languages import kept_text
from fundoscope.reports.screening import DrawnRow
from fundoscope.stopwatch import stage

if TYPE_CHECKING:  # measuring vessels takes SciPy and scikit-image: a third of a second that only --vessels waits for
    from fundoscope.rop.vascular import VascularIndex, VascularReading

#: The reason in every row with an answer that was learnt from simulated eyes.
SIMULATED = "SIMULATED: what is said of treatment was learnt from simulated eyes only"
_KEPT_PIXELS = 2_000_000  # of a photograph whose pixels are evidence, too: a run holds a dozen at once
#: Said of the vessels of a photograph that was refused.
NOT_MEASURED = kept_text("refused photographs are not measured")


@dataclass(frozen=True, slots=True)
class RopEvidence:
    """What a finding rests on.

    `picture` is the standard square before contrast enhancement, uint8 RGB (None: not read); `activation` (rows,
    columns) is the class activation map in logits (None: not graded); `size` is the photograph's (rows, columns). `distance`
    is how far it lies from the photographs that the bundle learnt from (None: not measured; see `likeness`). `place` is where
    the square lies in the photograph: top, left, height and width in its pixels; part of it may lie outside. `vascular` is what the vascular
    index rests on (None: not asked, or not graded). `pixels` are the photograph's own, (rows, columns, 3), uint8 RGB (None: it is
    large, and was decoded at a reduced scale or would take much memory).
    `drawn` are the pictures for the page, once they are drawn.
    """

    picture: Pixels | None = None
    activation: NDArray[np.float32] | None = None
    size: tuple[int, int] | None = None
    distance: float | None = None
    place: tuple[float, float, float, float] | None = None
    vascular: VascularReading | None = None
    pixels: Pixels | None = None
    drawn: DrawnRow | None = None


def screen_photograph(
    source: PhotographSource,
    name: str,
    bundle: Bundle,
    second: Stage | None = None,
    reference: LikenessReference | None = None,
    vascular: VascularIndex | None = None,
) -> GradedPhotograph:
    """The finding of one photograph, with `RopEvidence`.

    `second` is the stage that tells, where ROP is suspected, whether it requires treatment; None tells nothing. `reference` is
    what photographs are compared with that the bundle learnt from; `vascular` measures the vessels around the disc. Raises `PhotographError`
    for what cannot be read.
    """
    start = time.perf_counter()
    source = source if vascular is None else load_source(source, name)  # a file may be read twice
    standard = bundle.card.standard
    photograph = standard.prepare(source, name)
    size = photograph.shape
    with stage("quality"):
        verdict = judge_quality(photograph, "infant")
        distance = None if reference is None else reference.distance(verdict.measures)
    picture = standard.square(photograph)
    found: dict[str, Any] = {"quality": round(verdict.score, 4)}
    activation = reading = None
    if not verdict.gradable:
        found.update(status=Status.REJECTED, reason=join_remarks(*verdict.reasons, *verdict.remarks))
    else:
        with stage("tensor"):
            tensor = standard.tensor(standard.enhance(picture))[None]
        (logits, activations), *treatment = bundle.run_stages(tensor, 2 if second else 1)
        activation = activations[0]
        p_rop = float(bundle.probabilities(logits)[0])
        doubts = bundle.card.doubts
        reasons = [*verdict.remarks, doubts.get("rop", "")]
        found.update(status=Status.OK, p_rop=p_rop, rop=bundle.decide(p_rop))
        if second is not None and found["rop"]:
            p_tr = second.probabilities(treatment[0][0])
            found.update(p_tr=float(p_tr[0]), treatment_requiring=bool(second.decisions(p_tr)[0]))
            reasons += [SIMULATED if bundle.card.stage2 == "simulated" else "", doubts.get("treatment", "")]
        found["reason"] = join_remarks(*reasons)
        if vascular is not None:
            with stage("vessels"):
                reading = vascular.read(_with_detail(photograph, source, name), p_rop, found["rop"])
    if vascular is not None:
        found["vascular"] = VascularFinding(note=NOT_MEASURED) if reading is None else reading.finding
    found["reason"] = join_remarks(found["reason"], photograph.photograph.remark)
    finding = RopFinding(photograph.name, seconds=round(time.perf_counter() - start, 4), **found)
    frame = Frame.around(photograph.field)
    place = (0.0, 0.0, *size) if standard.view == "whole" else (frame.row, frame.column, frame.side, frame.side)
    kept = photograph.photograph.reduction == 1 and math.prod(size) <= _KEPT_PIXELS
    pixels = photograph.pixels if kept else None
    return GradedPhotograph((finding,), RopEvidence(picture, activation, size, distance, place, reading, pixels))


def _with_detail(photograph: Prepared, source: PhotographSource, name: str) -> Prepared:
    """The photograph with its field at least `DIAMETER` pixels across, where the file has them: a large JPEG is decoded once more."""
    reduction = photograph.photograph.reduction
    if reduction == 1 or 2 * photograph.field.radius / reduction >= DIAMETER:
        return photograph
    return Prepared.read(source, name, math.ceil(DIAMETER / OVERSAMPLING))
