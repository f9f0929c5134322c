"""The way of an external validation, one step a line; the answer moves into its folder when it is whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fundoscope.bundles import Bundle, locate, open_bundle
from fundoscope.bundles.read import Precision
from fundoscope.bundles.training_hashes import read_training_hashes
from fundoscope.cohort import Cohort, ProblemKind, make_groups, write_audit_page
from fundoscope.errors import CohortError, counted
from fundoscope.outputs import answer_folder
from fundoscope.processors import share_processors
from fundoscope.rop.external.evaluate import ExternalEvaluation, GradedCohort
from fundoscope.rop.external.mistakes import explain_answers
from fundoscope.rop.external.page import write_page
from fundoscope.rop.external.predict import CohortPredictor
from fundoscope.rop.external.results import ExternalResults
from fundoscope.rop.study.explained_pictures import EXPLAINED, write_pictures
from fundoscope.rop.study.plan import audit_cohort
from fundoscope.rop.study.questions import Question, rop_question, treatment_question
from fundoscope.rop.study.results import RESULTS, as_plain
from fundoscope.studies import Progress, write_json

#: What the command writes into its folder.
ENTRIES = (
    "audit.html", "problems.csv", "photographs.parquet", "measures.parquet", "predictions.parquet", "results.json",
    "tables", EXPLAINED, "figures", "report.html",
)  # fmt: skip

#: Problems that no figure can survive; a photograph that is missing or broken is counted instead.
_FATAL_PROBLEMS = (ProblemKind.TWO_LABELS, ProblemKind.TWO_INFANTS)


@dataclass(frozen=True)
class ExternalOptions:
    """What the command line asks for: `prevalences` are the shares of ill eyes for which predictive values are computed."""

    cohort: Path
    bundle: str
    out: Path
    independent: bool = False
    prevalences: tuple[float, ...] = ()
    precision: Precision = "int8"
    allow_simulated: bool = False


def evaluate_bundle(options: ExternalOptions, progress: Progress) -> ExternalResults:
    """Evaluate a bundle on a labelled cohort; writes `ENTRIES` into `options.out` and returns what was found.

    Raises `UsageError` for a cohort without infants unless images are said to be independent, `CohortError` where a class is
    missing or the audit finds what makes figures meaningless, `BundleError` for a bundle that cannot be used.
    """
    folder, cohort = locate(options.bundle), Cohort.read(options.cohort)
    check_classes(cohort)
    settings = {
        "table": str(options.cohort.resolve()), "bundle": str(folder.resolve()), "precision": options.precision,
        "allow_simulated": options.allow_simulated,
    }  # fmt: skip
    inputs = [options.cohort, *cohort.paths, *folder.iterdir()]
    with answer_folder(options.out, "rop evaluate", ENTRIES, inputs, settings) as part:
        bundle = open_bundle(folder, 1, options.precision)
        share_processors(1)  # several photographs are worked on at once
        evaluation = _evaluate(options, bundle, part, progress)
        results = evaluation.results()
        evaluation.write_tables(part / "tables")
        write_json(part / RESULTS, as_plain(results))
        (part / EXPLAINED).mkdir()
        write_pictures(part / EXPLAINED, explain_answers(evaluation, bundle))
        write_page(part)
    for line in results.summary:
        progress.say(line)
    return results


def _evaluate(options: ExternalOptions, bundle: Bundle, part: Path, progress: Progress) -> ExternalEvaluation:
    """The audit and the answers, written into `part`, and the evaluation that reads them."""
    audit = audit_cohort(options.cohort, options.independent, _FATAL_PROBLEMS, "evaluation", progress)
    write_audit_page(audit, part)
    if not audit.clean:
        found = ", ".join(f"{kind.value}: {n}" for kind, n in audit.counts.items())
        progress.say(f"audit: {found}; photographs of one eye are kept together in the intervals")
    questions, why = asked_questions(audit.cohort, bundle, options.allow_simulated)
    if why:
        progress.say(why)
    hashes = read_training_hashes(bundle.folder, bundle.card)
    CohortPredictor(bundle, questions, hashes).write(audit.cohort, part, progress)
    groups = make_groups(audit.cohort, audit.pairs)
    graded = GradedCohort.read(audit, groups, questions, bundle.card, part, options.precision)
    return ExternalEvaluation(graded, options.prevalences, None if hashes is None else len(hashes))


def check_classes(cohort: Cohort) -> None:
    """Raise `CohortError` for a cohort of one class: neither sensitivity nor AUC can be measured there."""
    for label, name in enumerate(("normal", "rop")):
        if not (cohort.labels == label).any():
            raise CohortError(
                f"{cohort.name}: none of {counted(len(cohort), 'photograph')} is labelled {name}, and figures need both "
                f"classes. Add photographs labelled {name}, or screen these by `fundoscope rop screen`."
            )


def asked_questions(cohort: Cohort, bundle: Bundle, allow_simulated: bool) -> tuple[list[Question], str]:
    """The questions that the cohort has labels for and the bundle may answer; and why the second is not among them."""
    first, second = rop_question(cohort), treatment_question(cohort)
    answers = set(second.labels[second.known_rows].tolist())
    if bundle.second is None or len(answers) < 2:
        return [first], ""
    if bundle.card.stage2 == "simulated" and not allow_simulated:
        return [first], (
            "whether treatment is required was learnt from simulated eyes only: not evaluated; --allow-simulated asks for it"
        )
    return [first, second], ""
