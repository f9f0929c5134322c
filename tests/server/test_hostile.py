"""Hostile text in every field that people fill in is inert wherever it comes out: pages, JSON, CSV, archives, PDF, headers."""

import csv
import io
import re
import zipfile
from html.parser import HTMLParser

import pytest
from test_matrix import MATRIX, READER, ask, make_world

from fundoscope.server.security.gate import is_open

HOSTILE = {
    "html": "\"'><img src=x onerror=alert(1)><script>alert(2)</script>",
    "link": "javascript:alert(1)//https://evil.example/?q=",
    "formula": "=cmd|' /C calc'!A0",
    "formula after a tab": "\t=1+1",
    "path": "../../../../etc/passwd",
    "direction": "a\u202egnp.exe\u2066\u200b",
    "template": "{{7*191}}{% include 'base.html.j2' %}${7*191}",
    "header": "x\r\nSet-Cookie: evil=1\r\n\r\n<html>",
    "control": "\x07\x1b[31m\x00"[:-1],
    "long": "LONG" * 2_500,
}
#: What no text that a person reads may hold as it is: it cannot be seen, and changes how the rest reads.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]")


class PageCheck(HTMLParser):
    """Collects what a page holds that only hostile text can have brought into it."""

    def __init__(self):
        super().__init__()
        self.faults = []
        self.typed = False  # within what can be edited, which is shown as it is

    def handle_starttag(self, tag, attributes):
        self.typed = tag == "textarea"
        for name, value in attributes:
            value = (value or "").strip().lower()
            if name.startswith("on"):
                self.faults.append(f"{tag} {name}={value}")
            if (
                name in ("href", "src", "action", "formaction")
                and re.match(r"[a-z]+:|//|\\", value)
                and not value.startswith("data:image/")
            ):
                self.faults.append(f"{tag} {name}={value}")
        if tag == "script" and not dict(attributes).get("src", "").startswith("/static/"):
            self.faults.append("script")
        if tag in ("iframe", "object", "embed", "base"):
            self.faults.append(tag)

    def handle_endtag(self, tag):
        self.typed = self.typed and tag != "textarea"

    def handle_data(self, data):
        if not self.typed and (found := UNSEEN.search(data)):
            self.faults.append(f"unseen {found[0]!r} in {data.strip()[:60]!r}")
        if "1337" in data:
            self.faults.append("a template was worked out")


def check_answer(answer):
    """What is wrong with an answer, whatever it is."""
    kind = answer.headers.get("content-type", "").split(";")[0]
    faults = []
    if answer.status_code >= 500:
        faults.append(f"status {answer.status_code}")
    if "evil" in str(answer.headers.get("set-cookie", "")) or any(
        UNSEEN.search(value) for value in answer.headers.values()
    ):
        faults.append("headers")
    if answer.headers.get("x-content-type-options") != "nosniff":
        faults.append("nosniff is missing")
    if kind == "text/html":
        page = PageCheck()
        page.feed(answer.text)
        faults += page.faults
    elif kind == "text/csv":
        faults += check_sheet(answer.text)
    elif kind == "application/zip":
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            for name in archive.namelist():
                if ".." in name or name.startswith(("/", "\\")) or UNSEEN.search(name):
                    faults.append(f"file {name!r}")
                if name.endswith(".csv"):
                    faults += check_sheet(archive.read(name).decode())
    elif kind == "application/pdf":
        for word in (b"/JavaScript", b"/JS", b"/Launch", b"/EmbeddedFile", b"evil.example", b"/SubmitForm"):
            if word in answer.content:
                faults.append(f"PDF with {word!r}")
    return faults


def check_sheet(text):
    return [
        f"cell {cell[:40]!r}"
        for row in csv.reader(io.StringIO(text))
        for cell in row
        if cell.startswith(("=", "+", "-", "@", "\t", "\r")) and not re.fullmatch(r"-?\d+(\.\d+)?", cell)
    ]


@pytest.mark.services
def test_hostile_text_is_inert_wherever_it_comes_out(room, site, sign_in):
    person = sign_in(READER, name="reader")
    worlds = {name: make_world(room, site, person.id, text) for name, text in HOSTILE.items()}
    faults = []
    for route, entry in MATRIX.items():
        if (
            not route.startswith("GET")
            or entry.streams
            or (READER not in entry.roles and not is_open(route.split(" ")[1]))
        ):
            continue
        for name, world in worlds.items() if entry.path else [("html", worlds["html"])]:
            if "/report" in route and "reports" not in route and name not in ("html", "direction"):
                continue  # each takes its time
            faults += [(route, name, fault) for fault in check_answer(ask(person, route, world))]
    assert faults == [], "\n".join(map(str, faults[:40]))


def test_hostile_text_is_refused_or_kept_as_it_is(sign_in, site):
    """By the interface for programs; forms of pages use the same models."""
    person, taken = sign_in(READER), {}
    for number, (name, text) in enumerate(HOSTILE.items()):
        sent = {"site_id": site.id, "code": f"N{number}", "name": text, "birth_group": text, "note": text}
        answer = person.post("/v1/patients", json=sent)
        taken[name] = answer.status_code
        if answer.status_code == 201:
            assert (answer.json()["name"], answer.json()["note"]) == (text.strip(), text.strip())
        as_code = person.post("/v1/patients", json={"site_id": site.id, "code": text})
        assert as_code.status_code == (201 if name in ("html", "link", "path", "template") else 422), name
    refused = {"direction", "header", "control", "long"}
    assert {name for name, status in taken.items() if status == 422} == refused
