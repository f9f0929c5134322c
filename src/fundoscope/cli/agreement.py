"""The answer that the commands on agreement give: a folder with tables and a page, and the figures in words."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fundoscope.cli.console import Console
    from fundoscope.reports.agreement import AgreementAnswer


@contextmanager
def answer_agreement(
    out: Path, command: str, inputs: Iterable[str | Path], settings: Mapping[str, Any], console: Console
) -> Generator[Callable[[AgreementAnswer], None]]:
    """A function that writes the answer to `out`; the same command given again replaces its own answer.

    Raises as `outputs.answer_folder`.
    """
    from fundoscope.outputs import answer_folder
    from fundoscope.reports.agreement import DIFFERENCES, FILES, PAGE, write_agreement

    with answer_folder(out, command, FILES, inputs, settings) as part:

        def write(answer: AgreementAnswer) -> None:
            write_agreement(part, answer)
            for each in answer.agreements:
                console.say(f"{each.first}, {each.second}: quadratic kappa {each.quadratic_kappa}")
                console.say(f"  kappa {each.kappa.value:.3f}, the same {each.same_class.value:.3f}")
                for note in each.notes:
                    console.say(f"  {note}")

        yield write
    console.say(f"page: {out / PAGE}; where the readers differ: {out / DIFFERENCES}")
