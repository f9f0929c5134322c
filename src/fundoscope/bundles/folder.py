"""The folder of a bundle while it is written: networks, card and checksums, moved into place in one step."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from fundoscope.bundles.card import SCHEMA_VERSION, BaseCard, Card, FileRecord, NickingCard, Parity
from fundoscope.bundles.read import CARD_FILE, C, verify_task
from fundoscope.errors import counted
from fundoscope.outputs import flush_to_disk

CARD_PAGE = "card.md"


@contextmanager
def replace_folder(out: Path) -> Generator[Path]:
    """A context with an empty folder, which replaces `out` when the block ends; if the block raises, `out` stays."""
    part = _fresh(out)
    try:
        yield part
        _move(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_card_files(card: BaseCard, parity: Sequence[str], part: Path) -> None:
    """Write `card.md` and `bundle.json` beside the networks and what else lies there, with the checksum of every file."""
    own = (CARD_PAGE, CARD_FILE)
    files = {path.name: _record(path) for path in sorted(part.iterdir()) if path.name not in own}
    page = part / CARD_PAGE
    page.write_text(render(card.model_copy(update={"files": files}), parity), encoding="utf-8")
    card = card.model_copy(update={"files": {CARD_PAGE: _record(page), **files}})
    (part / CARD_FILE).write_text(card.sealed_json(), encoding="utf-8")


def parity_lines(parity: Parity) -> list[str]:
    """The parity report in words, a line each."""
    n = parity.n_photographs
    lines = [
        f"parity  torch to ONNX fp32: logits differ by {parity.fp32_max_abs_logit:.1e} at most on {counted(n, 'photograph')}",
        f"        fp32 to INT8: {parity.int8_flips} of {n} decisions change; logits differ by "
        f"{parity.int8_mean_abs_logit:.3f} on average, {parity.int8_max_abs_logit:.3f} at most",
    ]
    if parity.int8_auc_change is not None:
        lines.append(f"        fp32 to INT8: AUC changes by {parity.int8_auc_change:+.4f}")
    return lines


def rewrite_card(
    folder: Path,
    changes: Mapping[str, object],
    out: Path | None = None,
    added: Mapping[str, str | bytes] | None = None,
) -> Card:
    """The card of a classifier's bundle, written anew: see `rewrite_bundle`."""
    return rewrite_bundle(folder, Card, changes, out, added)


def rewrite_bundle(
    folder: Path,
    kind: type[C],
    changes: Mapping[str, object],
    out: Path | None = None,
    added: Mapping[str, str | bytes] | None = None,
) -> C:
    """Write the card of a bundle of one `kind` anew with some fields changed, and its page and checksums; returns it.

    The networks, and what else lies beside them, stay byte for byte; `added` are texts or bytes of files by name, which are added
    or replaced. With `out` the bundle stays as it is, and the changed one is written there. Raises `BundleError` for a bundle that
    is broken or of another task.
    """
    out = folder if out is None else out
    card = verify_task(folder, kind)
    card = card.model_copy(update={"schema_version": SCHEMA_VERSION, **changes})
    with replace_folder(out) as part:
        for name in card.files:
            shutil.copyfile(folder / name, part / name)
        for name, content in (added or {}).items():
            (part / name).write_bytes(content.encode() if isinstance(content, str) else content)
        write_card_files(card, card_parity_lines(card), part)
    return verify_task(out, kind)


def card_parity_lines(card: BaseCard) -> list[str]:
    """How far the files of a bundle differ from the networks that were trained, a line each."""
    if isinstance(card, Card):
        return [line for parity in (card.parity, card.parity_second) if parity for line in parity_lines(parity)]
    if not isinstance(card, NickingCard) or card.parity is None:
        return []
    lines = [f"torch to ONNX with weights of 16 bits: maps differ by {card.parity:.1e} at most"]
    if card.parity_grades is not None:
        lines.append(f"graders: probabilities differ by {card.parity_grades:.1e} at most")
    return lines


def render(card: BaseCard, parity: Sequence[str]) -> str:
    """The card as Markdown; `parity` are lines on how far the files differ from the networks that were trained."""
    loader = PackageLoader("fundoscope.bundles", ".")
    page = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["mb"] = lambda count: f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.0f} kB"
    return page.get_template(f"{card.task}.md.jinja").render(card=card, parity=parity)


def _record(path: Path) -> FileRecord:
    data = path.read_bytes()
    return FileRecord(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _fresh(out: Path) -> Path:
    """An empty folder beside `out`; whatever an interrupted earlier run left there is repaired or removed first."""
    part, old = out.with_name(f".{out.name}.part"), out.with_name(f".{out.name}.old")
    if old.exists() and not out.exists():
        old.replace(out)  # killed between the two moves of `_move`
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def _move(part: Path, out: Path) -> None:
    """Move a finished folder to `out`; its files are flushed to the disk first."""
    for path in (*part.iterdir(), part):
        flush_to_disk(path)
    old = out.with_name(f".{out.name}.old")
    if out.exists():
        out.replace(old)  # a folder that is not empty cannot be replaced, only moved away
    try:
        part.replace(out)
    except OSError:
        if old.exists():
            old.replace(out)
        raise
    flush_to_disk(out.parent)
    shutil.rmtree(old, ignore_errors=True)
