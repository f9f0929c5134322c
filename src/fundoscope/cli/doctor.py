"""`fundoscope doctor`: what is installed here, what the machine has, and whether the shipped bundles are whole."""

from __future__ import annotations

import typer

_BASE = ("numpy", "opencv-python-headless", "onnxruntime", "pillow", "pydantic", "typer", "jinja2")
_EXTRA = ("torch", "lightning", "timm", "onnx", "scikit-learn", "matplotlib")


def doctor() -> None:
    """Print versions, processors, and the bundles found with their verdicts; exits with 3 when a bundle is broken."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from fundoscope.processors import count_processors

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    print(f"fundoscope   {version('fundoscope')}")
    print(f"python       {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(f"processors   {count_processors()}")
    for name in _BASE:
        print(f"{name:<24} {installed(name)}")
    for name in _EXTRA:
        print(
            f"{name:<24} {installed(name)}" + (" (needed to train only)" if installed(name) == "not installed" else "")
        )
    raise typer.Exit(_bundles())


def _bundles() -> int:
    from fundoscope.bundles import find_bundles, verify
    from fundoscope.errors import BundleError

    found = find_bundles()
    if not found:
        print("bundles      none is shipped with this installation: reinstall fundoscope")
        return BundleError.exit_code
    worst = 0
    for name, folder in found.items():
        try:
            card = verify(folder)
            size = sum(file.bytes for file in card.files.values()) / 1e6
            print(f"bundle {name:<12} whole: {card.intended_use}, made {card.created}, {size:.1f} MB, {folder}")
        except BundleError as error:
            print(f"bundle {name:<12} BROKEN: {error}")
            worst = error.exit_code
    return worst
