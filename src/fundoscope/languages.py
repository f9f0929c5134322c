"""The language in which pages and messages speak: English, or Simplified Chinese from the catalogues in `locale/`.

A text that a person reads is written `_("There is no {noun} here.").format(noun=...)`, with `gettext` imported as `_`; tables and
programs' answers never change with the language. A text that stands in a table of the source, and is read when the module is
loaded, is marked there with `gettext_noop` and translated where it is shown: `_(TITLES[kind])`. `make languages` gathers all texts.
"""

from __future__ import annotations

import gettext as catalogues
import re
import string
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path
from typing import Any

#: Language tags, each with its own name.
LANGUAGES = {"en": "English", "zh": "简体中文"}

_LOCALE = Path(__file__).parent / "locale"
_spoken: ContextVar[str] = ContextVar("language", default="en")
_SHORT = 12  # letters: too little to hold on to in the middle of a text
_kept_texts: dict[str, re.Pattern[str]] = {}


def current_language() -> str:
    """The tag of the language spoken now."""
    return _spoken.get()


def html_language() -> str:
    """The language spoken now, as HTML names it."""
    return {"zh": "zh-Hans"}.get(current_language(), current_language())


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
    return _catalogue(_spoken.get()).gettext(message) if message else ""  # a catalogue keeps its own facts under ""


def gettext_noop(message: str) -> str:
    """The message as it is; marks it for the catalogues where it stands, to be translated where it is shown."""
    return message


def kept_text(message: str) -> str:
    """The message as it is; marks a text that stands in answers, which stay English, so that `translate_kept` finds it there."""
    parts = string.Formatter().parse(message)
    pattern = "".join(re.escape(text) + ("" if name is None else "(.+?)") for text, name, *_ in parts)
    whole = message.startswith("{") or len(message) < _SHORT
    _kept_texts[message] = re.compile(
        rf"\A{pattern}\Z" if whole else pattern + ("\\Z" if message.endswith("}") else "")
    )
    return message


def translate_kept(text: str) -> str:
    """A text of an answer, such as the reason of a refusal, in the language spoken now; parts that are not known stay."""
    if current_language() == "en":
        return text
    for message in sorted(_kept_texts, key=len, reverse=True):  # a short one may be part of a long one
        pattern, translated = _kept_texts[message], gettext(message)
        if translated != message:
            text = pattern.sub(lambda found, to=translated, of=message: _fill(of, to, found.groups()), text)
    return text


def _fill(message: str, translated: str, values: tuple[str, ...]) -> str:
    """The translation with the values that stand in the message, by their names; they are written out already."""
    names = [name for _, name, *_ in string.Formatter().parse(message) if name is not None]
    known = {name: translate_kept(value) for name, value in zip(names, values, strict=True)}
    return "".join(
        text + ("" if name is None else known[name]) for text, name, *_ in string.Formatter().parse(translated)
    )


def ngettext(one: str, many: str, count: int) -> str:
    """The message for `count` things in the language spoken now."""
    return _catalogue(_spoken.get()).ngettext(one, many, count)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A sentence that is made once and said in any language: a marked text with the values for its placeholders.

    `str(...)` is English, `spoken()` the language spoken now. A value that is a phrase is said in that language, too.
    """

    template: str
    values: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return self.template.format(**{name: str(value) for name, value in self.values})

    def spoken(self) -> str:
        """The sentence in the language spoken now."""
        values = {name: value.spoken() if isinstance(value, Phrase) else str(value) for name, value in self.values}
        return gettext(self.template).format(**values)

    def as_json(self) -> dict[str, Any]:
        """The phrase as plain JSON, to be kept and said later."""
        values = {name: value.as_json() if isinstance(value, Phrase) else str(value) for name, value in self.values}
        return {"text": self.template, **({"values": values} if values else {})}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Phrase:
        """The phrase that `as_json` has made plain."""
        values = kept.get("values", {})
        read = {name: cls.from_json(value) if isinstance(value, Mapping) else value for name, value in values.items()}
        return cls(kept["text"], tuple(read.items()))


def phrase(template: str, **values: object) -> Phrase:
    """A phrase; the text is gathered for the catalogues where it stands as this function's first argument."""
    return Phrase(template, tuple(values.items()))


def join(parts: Iterable[object], template: str = "{one}, {two}") -> Phrase:
    """The parts one after the other, joined in pairs by a marked text; a blank phrase where there are none."""
    said = [part if isinstance(part, Phrase) else Phrase("{it}", (("it", part),)) for part in parts]
    return reduce(lambda one, two: phrase(template, one=one, two=two), said) if said else Phrase("")


@cache
def _catalogue(language: str) -> catalogues.NullTranslations:
    return catalogues.translation("fundoscope", _LOCALE, [language], fallback=True)


#: How `join` puts parts together.
LIST, BOTH, SENTENCES = gettext_noop("{one}, {two}"), gettext_noop("{one} and {two}"), gettext_noop("{one} {two}")
