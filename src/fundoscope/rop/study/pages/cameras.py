"""Whether the grader holds: by camera, on a camera that was never seen, and on photographs that somebody rendered anew."""

from __future__ import annotations

from fundoscope.reports import Section, Table
from fundoscope.rop.study.pages.files import StudyFiles, cells

_METRICS = ("auc", "sensitivity", "specificity")
_RENDERED_COLUMNS = ("rendering", "decisions that change", "auc less that as they are", *_METRICS)
_BY_CAMERA = (
    "Where one camera took more of the ill, whoever tells cameras apart tells patients apart. So every AUC of this page compares "
    "photographs by one camera only (the curves alone pool all), and the camera is one of the nuisances that a grader must beat."
)
_NEVER_SEEN = (
    "Trained, stopped, calibrated and given a threshold on the other cameras alone: what a clinic with another camera may expect "
    "before it has labels of its own."
)
_RENDERED = (
    "The photographs that each fold held out, rendered in twelve ways that move nothing on the retina. Training knew these "
    "renderings, not these photographs; thresholds were chosen on inner photographs."
)


def sections(files: StudyFiles) -> list[Section]:
    """The tables that this study has, if any."""
    results, made = files.results, []
    if by_camera := results.get("cameras"):
        caption = "Stage 1 by camera, each grader at its own threshold"
        table = Table(cells(by_camera, ("grader", "photographs", *_METRICS)), caption)
        made.append(Section("Cameras", tables=(table,), explained=(_BY_CAMERA,)))
    if never_seen := results.get("other_camera"):
        columns = ("network", "learnt from", "tested on", *_METRICS)
        made.append(
            Section("A camera never seen", tables=(Table(cells(never_seen, columns)),), explained=(_NEVER_SEEN,))
        )
    if rendered := results.get("renderings"):
        worst = max(rendered[1:], key=lambda row: row["decisions that change"]["value"])
        told = (
            f"The worst for decisions is '{worst['rendering']}': "
            f"{worst['decisions that change']['value']:.1%} of them change."
        )
        caption = f"Stage 1 by the {results['exported']}"
        made.append(
            Section(
                "Rendered otherwise",
                (told,),
                tables=(Table(cells(rendered, _RENDERED_COLUMNS), caption),),
                explained=(_RENDERED,),
            )
        )
    return made
