"""Parts that all reports share: escaped templates, one stylesheet, and a policy by which a page loads nothing.

Names of files may be hostile. Jinja escapes each value, characters that cannot be seen are spelled out, and the content
security policy allows only the page's own script and style.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fundoscope.errors import UsageError, printable
from fundoscope.languages import gettext, gettext_noop, html_language, ngettext, translate_kept

RESEARCH_USE = gettext_noop("Research use only")
SIMULATED = gettext_noop("Simulated")

_IMAGES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@functools.cache
def environment() -> Environment:
    """The templates of this package."""
    return open_templates("fundoscope.reports", html_language=html_language)


def open_templates(package: str, **names: Any) -> Environment:
    """The templates of a package: values are escaped, and a missing value is an error.

    Names: `_`, `ngettext`, and `names`. Filters: `printable`, and `kept` of texts that answers keep in English.
    """
    env = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(printable=printable, kept=translate_kept)
    globals_: dict[str, Any] = {"_": gettext, "ngettext": ngettext, **names}
    env.globals.update(globals_)
    return env


def render(template: str, **values: Any) -> bytes:
    """One template of this package as UTF-8."""
    return environment().get_template(template).render(**values).encode("utf-8", "backslashreplace")


def is_number(value: object) -> bool:
    """Whether a table cell belongs in a column of numbers: a number or a blank, but no yes or no."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def shell(stamps: Sequence[str], script: str = "") -> dict[str, Any]:
    """Values for the head of a page: style, script, their content security policy, and the stamps."""
    style = resource("style.css") + _running(stamps)
    return {
        "style": Markup(style),  # our own file, and a CSS string of hexadecimal escapes
        "script": Markup(script),  # our own file
        "policy": f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        "stamps": list(stamps),
    }


def resource(name: str) -> str:
    """A script or stylesheet of this package, by the name of its file."""
    return files("fundoscope.reports").joinpath("templates", name).read_text(encoding="utf-8")


def image_uri(path: Path) -> str:
    """A PNG or JPEG file as a `data:` address; raises `UsageError` where there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Draw the figure before the report.") from error
    kind = next((mime for magic, mime in _IMAGES.items() if data.startswith(magic)), None)
    if kind is None:
        raise UsageError(f"{path}: is neither PNG nor JPEG. Save the figure as PNG.")
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _running(stamps: Sequence[str]) -> str:
    """The stamps as a header of every printed page."""
    line = "   ·   ".join(gettext(stamp).upper() for stamp in stamps)
    text = "".join(c if c.isascii() and c.isalnum() else f"\\{ord(c):06x}" for c in line)
    return f'@page{{@top-left{{content:"{text}"}}}}\n'
