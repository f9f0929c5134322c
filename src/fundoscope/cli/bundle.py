"""`fundoscope bundle`: the card of a bundle, whether all its files are whole, and the same for other runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from fundoscope.cli.options import Quiet, RuntimeName

app = typer.Typer(help="The networks that grade, their cards, and whether they are whole.", no_args_is_help=True)

_WHICH = typer.Argument(metavar="[BUNDLE]", help="A folder, or the name of a shipped bundle; default: all shipped.")


@app.command()
def show(
    bundle: Annotated[str | None, _WHICH] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead, an object a line.")] = False,
) -> None:
    """Print the card of a bundle: its purpose, its training data, how it decides; exits with 3 if it is broken."""
    from fundoscope.bundles import verify

    for folder in _folders(bundle):
        card = verify(folder)
        print(card.model_dump_json() if as_json else (folder / "card.md").read_text(encoding="utf-8"))


@app.command(name="verify")
def verify_files(bundle: Annotated[str | None, _WHICH] = None) -> None:
    """Check every file of a bundle and run its network once, a line each; exits with 3 if one is broken."""

    def tell(folder: Path) -> bool:
        print(f"whole   {_run_once(folder)}")
        return True

    _judge_each(bundle, tell)


@app.command()
def selftest(
    bundle: Annotated[str | None, _WHICH] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Write golden vectors into BUNDLE first: once, where it is made.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every comparison.")] = False,
    runtime: RuntimeName = "onnxruntime",
) -> None:
    """Run a bundle on its golden vectors: whether this processor and these libraries give its makers' numbers; exits with 3 if not."""
    from fundoscope.bundles.golden import add_golden, check_golden
    from fundoscope.bundles.read import check_runtime
    from fundoscope.errors import UsageError, counted

    if add and bundle is None:
        raise UsageError("--add writes into one bundle. Name its folder.")
    chosen = check_runtime(runtime)

    def tell(folder: Path) -> bool:
        if add:
            add_golden(folder)
        test = check_golden(folder, chosen)
        verdict = "FAILED" if test.faults else "passed"
        print(f"{verdict}  {folder}: {counted(len(test.lines) - 1, 'comparison')}; {test.lines[0]}")
        for line in test.lines[1:] if verbose else test.faults:
            print(f"        {line}")
        return not test.faults

    _judge_each(bundle, tell)


def _judge_each(bundle: str | None, tell: Callable[[Path], bool]) -> None:
    """Print what `tell` says of each bundle; leaves with 3 where one is broken, or `tell` is False."""
    from fundoscope.errors import BundleError

    good = True
    for folder in _folders(bundle):
        try:
            good = tell(folder) and good
        except BundleError as error:
            good = False
            print(f"BROKEN  {error}")
    if not good:
        raise typer.Exit(BundleError.exit_code)


@app.command()
def export(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write; what an earlier export left in it is replaced.")
    ],
    to: Annotated[
        str,
        typer.Option(
            help="onnx: for ONNX Runtime anywhere; openvino: OpenVINO models; web: a page that judges in the browser."
        ),
    ],
    bundle: Annotated[str, typer.Option(help="A bundle's folder, or the name of a shipped one.")] = "rop",
    onnxruntime_web: Annotated[
        Path | None,
        typer.Option(help="npm's package onnxruntime-web, an archive or a folder; without it, web downloads it."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a bundle as a folder that runs without Fundoscope: networks, card, golden vectors, exact steps, notices, checksums.

    Exit codes: 0 written, 2 the call is wrong, 3 the bundle is broken or misses its golden vectors there, 4 it could not be written.
    """
    from fundoscope.bundles import locate
    from fundoscope.bundles.export import check_target, export_bundle

    target = check_target(to)
    export_bundle(locate(bundle), out, target, onnxruntime_web, (lambda line: None) if quiet else print)


def _run_once(folder: Path) -> str:
    """A line about a bundle of which every file is whole and the network runs; raises `BundleError` otherwise."""
    import numpy as np

    from fundoscope.bundles import open_bundle, verify
    from fundoscope.bundles.card import NickingCard
    from fundoscope.bundles.read_nicking import open_nicking_bundle
    from fundoscope.errors import counted

    card = verify(folder)
    if isinstance(card, NickingCard):
        open_nicking_bundle(folder).map_vessels(np.zeros((3, 64, 64), np.float32))
    else:
        opened = open_bundle(folder)
        size = opened.card.standard.size
        opened.run_stages(np.zeros((1, 3, size, size), np.float32), len(opened.card.stages))
    megabytes = sum(file.bytes for file in card.files.values()) / 1e6
    return f"{card.name}: {counted(len(card.files), 'file')}, {megabytes:.1f} MB, {folder}"


def _folders(bundle: str | None) -> list[Path]:
    from fundoscope.bundles import find_bundles, locate
    from fundoscope.errors import BundleError

    folders = [locate(bundle)] if bundle is not None else list(find_bundles().values())
    if not folders:
        raise BundleError("this installation ships no bundle. Name a folder, or reinstall fundoscope.")
    return folders
