"""What the browser page is made of: our modules, ONNX Runtime's build for browsers, and the words that people read.

ONNX Runtime is not in this package: its WebAssembly alone is 14 MB, twice the shipped networks. It is downloaded from npm when a
page is made, or taken from a folder or archive of that npm package; either way its files must have the checksums below.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from fundoscope.errors import UsageError
from fundoscope.findings import NOTHING_SEEN
from fundoscope.imaging.quality import NUMBERS, REASONS, WARNINGS
from fundoscope.languages import LANGUAGES, gettext, gettext_noop, speaking

WEB = Path(__file__).resolve().parent.parent / "web"

ONNXRUNTIME_WEB = "1.30.0"
_REGISTRY = "https://registry.npmjs.org"
_INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # SHA-512 of the archive
)
#: The three files of the package that the page needs, and their SHA-256.
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}

#: What the page says, by the names its script uses.
PAGE_WORDS = {
    "title": gettext_noop("Screening for retinopathy of prematurity"),
    "research": gettext_noop("Research use only"),
    "lead": gettext_noop(
        "Photographs of infants' eyes are judged by this page itself, on this computer. Nothing leaves it: not a photograph, not a name, not an answer."
    ),
    "loading": gettext_noop("Loading the networks, then trying them on known pictures ..."),
    "ready": gettext_noop(
        "Ready. The networks give their makers' answers on this computer: {n} comparisons with known pictures agree."
    ),
    "faults": gettext_noop(
        "This browser does not give the makers' answers, so nothing is judged here: {fault}. Use another browser."
    ),
    "broken": gettext_noop("The page cannot work: {reason}. Serve its whole folder again, and use a current browser."),
    "drop": gettext_noop("Drop photographs here"),
    "or": gettext_noop("or"),
    "choose": gettext_noop("Choose photographs"),
    "kinds": gettext_noop("JPEG or PNG, as the camera wrote them"),
    "answers": gettext_noop("Answers"),
    "save": gettext_noop("Save the table (CSV)"),
    "clear": gettext_noop("Clear"),
    "close": gettext_noop("Close"),
    "photograph": gettext_noop("Photograph"),
    "answer": gettext_noop("Answer"),
    "probability": gettext_noop("Probability of ROP"),
    "quality": gettext_noop("Quality"),
    "reason": gettext_noop("Reason"),
    "excludes": gettext_noop(
        "A negative answer excludes nothing: it is said of this view of the eye alone. No one's care may rest on what this page says."
    ),
    "end_suspect": gettext_noop("ROP suspected"),
    "end_nothing": gettext_noop("no ROP seen"),
    "end_rejected": gettext_noop("refused, not graded"),
    "end_failed": gettext_noop("could not be read"),
    "end_waiting": gettext_noop("waiting"),
    "count_suspect": gettext_noop("ROP suspected"),
    "count_nothing": gettext_noop("no ROP seen"),
    "count_rejected": gettext_noop("rejected"),
    "count_failed": gettext_noop("failed"),
    "unlike": gettext_noop(
        "These photographs look unlike those that the networks learnt from: {beyond} of {all} lie further away than 95 % of those do. The threshold may not hold for them."
    ),
    "about": gettext_noop("About these answers"),
    "fact_bundle": gettext_noop("Bundle"),
    "fact_for": gettext_noop("For"),
    "fact_trained": gettext_noop("Trained on"),
    "fact_never": gettext_noop("Never tested on"),
    "fact_threshold": gettext_noop("Threshold"),
    "fact_threads": gettext_noop("Threads"),
    "several": gettext_noop("several: this page is isolated from others"),
    "one": gettext_noop("one: this page is not isolated from others"),
    "field": gettext_noop("The field of view, as it was judged"),
    "evidence": gettext_noop("What speaks for ROP, and where"),
    "no_evidence": gettext_noop("No part of the photograph speaks for ROP."),
    "weak": gettext_noop("weak"),
    "strong": gettext_noop("strong"),
}


def web_modules() -> dict[str, bytes]:
    """The page and its modules, by their names in the export."""
    return {
        path.name: path.read_bytes()
        for path in sorted(WEB.iterdir())
        if path.suffix in (".html", ".css", ".js", ".json", ".svg")
    }


def read_onnxruntime_web(given: Path | None, say: Callable[[str], None]) -> dict[str, bytes]:
    """ONNX Runtime's files for browsers, `ort/NAME` -> bytes, from the npm package: a folder, an archive, or downloaded.

    Raises `UsageError` where the package cannot be had, or a file of it is another.
    """
    if given is None:
        found = _members(_download(say), "the npm registry's archive")
    elif given.is_dir():
        folder = given / "dist" if (given / "dist").is_dir() else given
        found = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    elif given.is_file():
        found = _members(given.read_bytes(), str(given))
    else:
        raise UsageError(f"--onnxruntime-web {given}: there is no such file or folder. {_BY_HAND}")
    for name, digest in FILES.items():
        if name not in found:
            raise UsageError(f"--onnxruntime-web {given}: holds no {name}. {_BY_HAND}")
        if hashlib.sha256(found[name]).hexdigest() != digest:
            raise UsageError(f"--onnxruntime-web {given}: {name} is not that of version {ONNXRUNTIME_WEB}. {_BY_HAND}")
    return {f"ort/{name}": data for name, data in found.items()}


_BY_HAND = f"Get the package with `npm pack onnxruntime-web@{ONNXRUNTIME_WEB}`, and give the file to --onnxruntime-web."


def _download(say: Callable[[str], None]) -> bytes:
    registry = os.environ.get("NPM_CONFIG_REGISTRY", _REGISTRY).rstrip("/")
    address = f"{registry}/onnxruntime-web/-/onnxruntime-web-{ONNXRUNTIME_WEB}.tgz"
    if not address.startswith(("https://", "http://")):
        raise UsageError(f"NPM_CONFIG_REGISTRY={registry} is no web address. {_BY_HAND}")
    say(f"downloading {address} (33 MB)")
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            data = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise UsageError(f"{address} cannot be downloaded ({getattr(error, 'reason', error)}). {_BY_HAND}") from error
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != _INTEGRITY:
        raise UsageError(f"{address} gave another file than the one that is known. {_BY_HAND}")
    return data


def _members(data: bytes, name: str) -> dict[str, bytes]:
    """The wanted files of an archive of the package."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = {
                Path(each.name).name: each for each in archive.getmembers() if each.isfile() and "dist/" in each.name
            }
            files = {wanted: archive.extractfile(members[wanted]) for wanted in FILES if wanted in members}
            return {wanted: file.read() for wanted, file in files.items() if file is not None}
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UsageError(
            f"--onnxruntime-web {name}: cannot be read as an archive ({type(error).__name__}). {_BY_HAND}"
        ) from error


def write_words(folder: Path) -> None:
    """Write `words.json`: what the page says in each language, and what each code of the quality verdict says."""
    words = {}
    for language in LANGUAGES:
        with speaking(language):
            words[language] = {
                "page": {name: gettext(text) for name, text in PAGE_WORDS.items()},
                "reasons": {code: gettext(text) for code, text in {**REASONS, **WARNINGS}.items()},
                "numbers": {str(n): gettext(text) for n, text in NUMBERS.items()},
                "many": gettext("many"),
                "nothing": gettext(NOTHING_SEEN),
            }
    (folder / "words.json").write_text(json.dumps(words, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
