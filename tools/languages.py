"""Bring the catalogues of texts up to date: `make languages` gathers what the source marks, and compiles what is translated.

Translate in `src/fundoscope/locale/zh/LC_MESSAGES/fundoscope.po`, in the words of docs/reference/where-to-add.md, then run it again.
"""

from __future__ import annotations

import io
import string
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "src" / "fundoscope" / "locale"
GUIDELINES = ROOT / "src" / "fundoscope" / "guidelines" / "data"
SENTENCES = ("title", "sentence", "beyond", "unclear")  # keys of their files
TRANSLATED = ("zh",)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def gather() -> Catalog:
    """All texts that the source marks, as a catalogue without translations."""
    mappings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["babel"]["mappings"]
    methods = [(each["pattern"], each["method"]) for each in mappings]
    options = {
        each["pattern"]: {k: str(v) for k, v in each.items() if k not in ("pattern", "method")} for each in mappings
    }
    found = Catalog(project="fundoscope")
    keywords = DEFAULT_KEYWORDS | {"gettext_noop": None, "phrase": None, "kept_text": None}
    # from src on, since a folder above may have a name that begins with a dot, which is passed over
    for _, _, text, _, _ in extract_from_dir(ROOT, methods, options, keywords, directory_filter=_is_of_source):
        found.add(text)
    for path in sorted(GUIDELINES.glob("*.toml")):
        for text in find_sentences(tomllib.loads(path.read_text(encoding="utf-8"))):
            found.add(text)
    return found


def find_sentences(table: object) -> Iterator[str]:
    """What a guideline's file says to people: its title, and the sentences of its rules."""
    if isinstance(table, list):
        for each in table:
            yield from find_sentences(each)
    elif isinstance(table, dict):
        for key, value in table.items():
            if isinstance(value, str) and key in SENTENCES:
                yield value
            else:
                yield from find_sentences(value)


def _is_of_source(folder: str) -> bool:
    inside = Path(folder).resolve().relative_to(ROOT).parts
    return not inside or (inside[0] == "src" and "__pycache__" not in inside)


def catalogue_path(language: str) -> Path:
    """Where the catalogue of a language stands."""
    return LOCALE / language / "LC_MESSAGES" / "fundoscope.po"


def read_catalogue(language: str) -> Catalog:
    """The catalogue of a language as it stands; empty where there is none."""
    path = catalogue_path(language)
    if not path.exists():
        return Catalog(locale=language, project="fundoscope")
    with path.open("rb") as file:
        return read_po(file, locale=language)


def update(language: str, texts: Catalog) -> Catalog:
    """The catalogue of a language with just these texts: what is new waits to be translated, what is gone is dropped.

    Nothing is guessed from similar texts.
    """
    known, updated = read_catalogue(language), Catalog(locale=language, project="fundoscope", fuzzy=False)
    for message in texts:
        if message.id:
            old = known.get(message.id)
            updated.add(message.id, old.string if old else "", flags=old.flags if old else ())
    return updated


def write(language: str, catalogue: Catalog) -> None:
    """Write the catalogue and its compiled form; without dates and lines, so that only a changed text is a change."""
    path = catalogue_path(language)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_po(catalogue))
    path.with_suffix(".mo").write_bytes(as_mo(catalogue))


def as_po(catalogue: Catalog) -> bytes:
    """The catalogue as text, sorted by its messages."""
    body = io.BytesIO()
    write_po(body, catalogue, no_location=True, sort_output=True, omit_header=True, width=0)
    head = f'msgid ""\nmsgstr ""\n"Language: {catalogue.locale}\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n'
    head += f'"Content-Transfer-Encoding: 8bit\\n"\n"Plural-Forms: {catalogue.plural_forms}\\n"\n\n'
    return head.encode() + body.getvalue()


def as_mo(catalogue: Catalog) -> bytes:
    """The catalogue as `gettext` reads it."""
    # a date in it would make every run a change
    bare = Catalog(locale=catalogue.locale, project="fundoscope", charset="utf-8", fuzzy=False, creation_date=LONG_AGO)
    for message in catalogue:
        if message.id and all(message.string if isinstance(message.string, tuple | list) else [message.string]):
            bare.add(message.id, message.string)
    body = io.BytesIO()
    write_mo(body, bare)
    return body.getvalue()


def find_faults(catalogue: Catalog) -> Iterator[str]:
    """Each text that is not translated, is marked as unsure, or has other placeholders than its translation."""
    for message in catalogue:
        if not message.id:
            continue
        sources = list(message.id) if isinstance(message.id, tuple | list) else [message.id]
        translations = list(message.string) if isinstance(message.string, tuple | list) else [message.string]
        if not all(translations):
            yield f"not translated: {sources[0]}"
        elif message.fuzzy:
            yield f"fuzzy: {sources[0]}"
        elif any(placeholders(text) != placeholders(sources[-1]) for text in translations):
            yield f"other placeholders than the text: {sources[0]}"


def placeholders(text: str) -> set[str]:
    """The names in braces, with their formats: {n}, {share:.0%}."""
    return {f"{name}:{form}" for _, name, form, _ in string.Formatter().parse(text) if name is not None}


def main() -> int:
    """Update all catalogues; 1 where something waits for a translator."""
    texts, faults = gather(), []
    for language in TRANSLATED:
        catalogue = update(language, texts)
        write(language, catalogue)
        faults += [f"{language}: {fault}" for fault in find_faults(catalogue)]
        print(f"{language}: {len(catalogue)} texts, {len(faults)} wait for a translator.")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
