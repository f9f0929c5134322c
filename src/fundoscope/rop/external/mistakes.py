"""Step 3, `explained/`: the worst answers and the surest right ones, read once more, with the maps behind them."""

from __future__ import annotations

from collections.abc import Iterator

from fundoscope.bundles import Bundle
from fundoscope.cohort import CohortRow
from fundoscope.reports.overlay import overlay
from fundoscope.rop.external.evaluate import ExternalEvaluation
from fundoscope.rop.study.explained_pictures import ExplainedPicture, choose_shown
from fundoscope.rop.study.results import maps_section

_SHOWN = 6  # photographs of each kind


def explain_answers(evaluation: ExternalEvaluation, bundle: Bundle) -> Iterator[ExplainedPicture]:
    """The most wrong and the surest right answers of each question, those that screening grades only, one at a time."""
    for stage, scored in enumerate(evaluation.questions):
        part = scored.select(evaluation.graded[scored.rows].nonzero()[0])
        found = part.reference_predictions
        for place, lines in choose_shown(part.question, part.y, found.p[0], found.thresholds[0], _SHOWN):
            record = evaluation.cohort[int(part.rows[place])]
            yield _explain(record, stage, bundle, maps_section(part.question.name), lines)


def _explain(record: CohortRow, stage: int, bundle: Bundle, section: str, lines: tuple[str, ...]) -> ExplainedPicture:
    standard = bundle.card.standard
    square = standard.square(standard.prepare(record.path, record.image))
    _, activations = bundle.run_stages(standard.tensor(standard.enhance(square))[None], stage + 1)[stage]
    return ExplainedPicture(section, overlay(square, activations[0]), record.image, lines)
