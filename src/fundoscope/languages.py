"""The language in which pages and messages speak: English, or Simplified Chinese from the catalogues in `locale/`.

A text that a person reads is written `_("There is no {noun} here.").format(noun=...)`, with `gettext` imported as `_`; tables and
programs' answers never change with the language. A text that stands in a table of the source, and is read when the module is
loaded, is marked there with `gettext_noop` and translated where it is shown: `_(TITLES[kind])`. `make languages` gathers all texts.
"""

from __future__ import annotations

import gettext as catalogues
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

#: Language tags, each with its own name.
LANGUAGES = {"en": "English", "zh": "简体中文"}

_LOCALE = Path(__file__).parent / "locale"
_spoken: ContextVar[str] = ContextVar("language", default="en")


def current_language() -> str:
    """The tag of the language spoken now."""
    return _spoken.get()


@contextmanager
def speaking(language: str) -> Generator[None]:
    """Speak `language` within the block; one that is not in `LANGUAGES` is spoken as English."""
    token = _spoken.set(language if language in LANGUAGES else "en")
    try:
        yield
    finally:
        _spoken.reset(token)


def gettext(message: str) -> str:
    """The message in the language spoken now; itself where the catalogue does not hold it."""
    return _catalogue(_spoken.get()).gettext(message)


def gettext_noop(message: str) -> str:
    """The message as it is; marks it for the catalogues where it stands, to be translated where it is shown."""
    return message


def ngettext(one: str, many: str, count: int) -> str:
    """The message for `count` things in the language spoken now."""
    return _catalogue(_spoken.get()).ngettext(one, many, count)


@cache
def _catalogue(language: str) -> catalogues.NullTranslations:
    return catalogues.translation("fundoscope", _LOCALE, [language], fallback=True)
