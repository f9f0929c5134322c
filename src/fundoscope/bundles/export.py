"""Bundles for other runtimes: a folder that runs without Fundoscope, on ONNX Runtime, on OpenVINO, or in a browser.

    onnx        the networks as they are, for ONNX Runtime in any language
    openvino    besides, each network as an OpenVINO model, which must pass the golden vectors
    web         a page that judges infants' photographs in the browser; the same modules run in Node

Whatever it is for, the folder is a bundle still (card, checksums, golden vectors), and holds what else the way of a photograph takes:
the numbers of the quality verdict, the page of exact steps, the licence, the notices, and `SHA256SUMS` of every file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from fundoscope.bundles.card import BaseCard, Card, NickingCard
from fundoscope.bundles.golden import GOLDEN_FILE, compare_golden
from fundoscope.bundles.openvino_session import OpenVinoSession
from fundoscope.bundles.read import CARD_FILE, Bundle, Precision, checked_bytes, verify
from fundoscope.bundles.read_nicking import GRADES_FILE, MAPS_FILE, NickingBundle
from fundoscope.bundles.web_files import ONNXRUNTIME_WEB, WEB, read_onnxruntime_web, web_modules, write_words
from fundoscope.errors import BundleError, UsageError, counted, nearest, need
from fundoscope.imaging import quality
from fundoscope.outputs import answer_folder, refuse_overwriting

Target = Literal["onnx", "openvino", "web"]
TARGETS: tuple[Target, ...] = ("onnx", "openvino", "web")

SUMS, READ_ME, NOTICES, LICENCE, STEPS = (
    "SHA256SUMS",
    "README.md",
    "THIRD_PARTY_NOTICES.md",
    "LICENSE",
    "exact-steps.md",
)
_OWN = (SUMS, READ_ME, NOTICES, LICENCE, STEPS)
_QUALITY = ("quality_table.json", "quality_network.json", "quality_network.onnx")
_ROOT = Path(__file__).resolve().parents[3]  # of a checkout


def check_target(name: str) -> Target:
    """What `--to` names; raises `UsageError` for another word."""
    if name not in TARGETS:
        raise UsageError(f"--to {name}: there is no such target; {nearest(name, TARGETS)}")
    return name


def export_bundle(
    bundle: Path, out: Path, target: Target, onnxruntime_web: Path | None = None, say: Callable[[str], None] = print
) -> None:
    """Write the bundle in the folder `bundle` to the folder `out` for a target; a few lines on it go to `say`.

    For `web`, `onnxruntime_web` is the package of npm, a folder or an archive; None downloads it. Raises `BundleError` for a
    bundle that is broken, holds no golden vectors, or misses them on the new runtime; `UsageError` for a target that it cannot
    have, and where `out` holds other files; `MissingExtraError` without OpenVINO; `OutputError` where nothing can be written.
    """
    inputs = [*bundle.iterdir(), *([] if onnxruntime_web is None else [onnxruntime_web])]
    refuse_overwriting(inputs, [out / name for name in (CARD_FILE, *_OWN, *_QUALITY, *web_modules())], [out])
    card = verify(bundle)
    if GOLDEN_FILE not in card.files:
        raise BundleError(
            f"bundle '{card.name}' at {bundle} holds no golden vectors, by which another runtime is checked. "
            f"Add them: fundoscope bundle selftest {bundle} --add."
        )
    if target == "web" and not isinstance(card, Card):
        raise UsageError(
            f"--to web: the page judges infants' photographs, and bundle '{card.name}' is for the task '{card.task}'. "
            "Export it --to onnx or openvino."
        )
    if target == "openvino":
        need("openvino", what="--to openvino", extra="openvino")
    entries = sorted({CARD_FILE, *card.files, *_OWN, *_entries_of(card, target)})
    settings = {"to": target, "bundle": card.name}
    with answer_folder(out, "bundle export", entries, inputs, settings) as part:
        runtime = read_onnxruntime_web(onnxruntime_web, say) if target == "web" else {}
        for name in (CARD_FILE, *card.files):
            shutil.copyfile(bundle / name, part / name)
        if isinstance(card, Card):
            for name in _QUALITY:
                shutil.copyfile(Path(quality.__file__).with_name(name), part / name)
        if target == "openvino":
            _write_openvino(part, card, say)
        for name, data in {**runtime, **(web_modules() if target == "web" else {})}.items():
            (part / name).parent.mkdir(exist_ok=True)
            (part / name).write_bytes(data)
        if target == "web":
            write_words(part)
        (part / STEPS).write_text(_own_text(STEPS), encoding="utf-8")
        (part / LICENCE).write_text(_own_text(LICENCE), encoding="utf-8")
        for name in (READ_ME, NOTICES):
            (part / name).write_text(_render(name, card, target, part), encoding="utf-8")
        _write_sums(part)
        size = sum(path.stat().st_size for path in _files_in(part))
        count = len(_files_in(part))
    say(f"{out}: {counted(count, 'file')}, {size / 1e6:.1f} MB; begin with {out / READ_ME}")


def _entries_of(card: BaseCard, target: Target) -> list[str]:
    """What a task and a target add: names of files and folders in the export."""
    models = [f"{Path(name).stem}.{kind}" for name in _networks(card) for kind in ("xml", "bin")]
    added = {"onnx": [], "openvino": models, "web": [*web_modules(), "ort", "words.json"]}
    return [*added[target], *(_QUALITY if isinstance(card, Card) else ())]


def _networks(card: BaseCard) -> list[str]:
    return sorted(name for name in card.files if name.endswith(".onnx"))


def _write_openvino(part: Path, card: BaseCard, say: Callable[[str], None]) -> None:
    """Write every network as an OpenVINO model, and try it on the golden vectors; raises `BundleError` where it misses them."""
    import openvino

    sessions = {}
    for name in _networks(card):
        model = openvino.Core().read_model(model=checked_bytes(part, name, card))
        written = part / f"{Path(name).stem}.xml"
        openvino.save_model(model, str(written), compress_to_fp16=False)
        sessions[name] = OpenVinoSession(written, written.name)
    test = compare_golden(part, card, _as_bundles(part, card, sessions), "openvino")
    if test.faults:
        raise BundleError(f"bundle '{card.name}' misses its golden vectors on OpenVINO: {'; '.join(test.faults)}.")
    say(f"passed  {counted(len(test.lines) - 1, 'comparison')} with the golden vectors; {test.lines[0]}")


def _as_bundles(
    folder: Path, card: BaseCard, sessions: dict[str, OpenVinoSession]
) -> dict[str, Bundle | NickingBundle]:
    """Bundles around networks that were opened already, by the names of the ONNX files."""
    if isinstance(card, Card):
        precisions: tuple[Precision, ...] = ("int8", "fp32")
        named = {f"model.{precision}.onnx": precision for precision in precisions}
        return {name: Bundle(folder, card, named[name], session, "openvino") for name, session in sessions.items()}
    assert isinstance(card, NickingCard)
    maps, graders = sessions[MAPS_FILE], sessions.get(GRADES_FILE)
    return {MAPS_FILE if graders is None else GRADES_FILE: NickingBundle(folder, card, maps, graders, "openvino")}


def _own_text(name: str) -> str:
    """A text of this project: as the package was installed with it, or from the checkout that it lies in."""
    places = [WEB / name, _ROOT / name, _ROOT / "docs" / "reference" / name]
    with suppress(importlib.metadata.PackageNotFoundError):
        files: Iterable[importlib.metadata.PackagePath] = importlib.metadata.files("fundoscope") or ()
        places += [Path(str(path.locate())) for path in files if path.name == name and ".dist-info" in str(path)]
    for place in places:
        if place.is_file():
            return place.read_text(encoding="utf-8")
    raise BundleError(f"{name} is missing from this installation. Reinstall fundoscope.")


def _render(name: str, card: BaseCard, target: Target, part: Path) -> str:
    """A page of the export from its template."""
    loader = PackageLoader("fundoscope.bundles", ".")
    page = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    networks = [each.name for each in sorted(part.glob("*.xml"))] if target == "openvino" else _networks(card)
    template = {READ_ME: "export.md.jinja", NOTICES: "export_notices.md.jinja"}[name]
    return page.get_template(template).render(card=card, target=target, networks=networks, ort=ONNXRUNTIME_WEB)


def _files_in(part: Path) -> list[Path]:
    return sorted(path for path in part.rglob("*") if path.is_file())


def _write_sums(part: Path) -> None:
    """`SHA256SUMS` as `sha256sum -c` reads it."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(part).as_posix()}\n"
        for path in _files_in(part)
    ]
    (part / SUMS).write_text("".join(lines), encoding="utf-8")
