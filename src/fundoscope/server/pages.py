"""Pages of the reading room: templates, the language they speak, dates and ages as people write them, files of the package.

A route ends with `return render(request, caller, "exam.html.j2", exam=exam)`, or after a change with
`return redirect(request, "/exams/7", _("The exam is finished."))`, whose message the next page shows once.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from babel.dates import format_date, format_datetime
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment
from markupsafe import Markup, escape

import fundoscope.imaging.quality
import fundoscope.nicking.grading.grades  # noqa: F401 - their texts stand in answers, and are translated where they are shown
from fundoscope.languages import LANGUAGES, current_language, gettext, ngettext, speaking
from fundoscope.reports.page import open_templates
from fundoscope.server.permissions import Caller

LANGUAGE_COOKIE = "language"
FLASH_COOKIE = "flash"
FLASH_SECONDS = 60  # that a message waits for its page
FLASH_CHARACTERS = 600  # a cookie holds 4 kB
YEAR_SECONDS = 365 * 24 * 3600

_LOCALES = {"en": "en_GB", "zh": "zh_Hans_CN"}
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}


def render(
    request: Request, caller: Caller | None, template: str, status: int = 200, /, **context: Any
) -> HTMLResponse:
    """The page of a template, in the language of the caller; a value that the template lacks is an error.

    The template has `caller` (None before sign-in), `path`, `csrf` and `csrf_field()`, and what `environment` gives it. The answer
    is kept by no cache.
    """
    language = choose_language(request, caller)
    csrf = getattr(request.state, "csrf", "")
    with speaking(language):
        html = (
            environment()
            .get_template(template)
            .render(
                caller=caller,
                path=request.url.path,
                language=language,
                messages=_read_flash(request),
                csrf=csrf,
                csrf_field=lambda: Markup('<input type="hidden" name="csrf" value="{}">').format(csrf),
                **context,
            )
        )
    response = HTMLResponse(html, status)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Language"] = language
    if FLASH_COOKIE in request.cookies:
        response.delete_cookie(FLASH_COOKIE)
    if request.query_params.get("language") in LANGUAGES:
        response.set_cookie(
            LANGUAGE_COOKIE, language, max_age=YEAR_SECONDS, httponly=True, samesite="lax", secure=_is_tls(request)
        )
    return response


def redirect(request: Request, path: str, message: str = "", kind: str = "good") -> RedirectResponse:
    """Go on to a page of this room with GET (303); the page shows the message, which is `good` or `bad`, once."""
    response = RedirectResponse(path, 303)
    if message:
        text = json.dumps([kind, message[:FLASH_CHARACTERS]])
        response.set_cookie(
            FLASH_COOKIE,
            base64.urlsafe_b64encode(text.encode()).decode(),
            max_age=FLASH_SECONDS,
            httponly=True,
            samesite="lax",
            secure=_is_tls(request),
        )
    return response


def choose_language(request: Request, caller: Caller | None) -> str:
    """The language of the account; before sign-in that of `?language=`, of the cookie, or what the browser would rather have."""
    if caller is not None:
        return caller.language if caller.language in LANGUAGES else "en"
    for tag in (request.query_params.get("language"), request.cookies.get(LANGUAGE_COOKIE)):
        if tag in LANGUAGES:
            return tag
    wishes = []
    for part in request.headers.get("accept-language", "")[:500].split(","):
        tag, _, parameters = part.strip().partition(";")
        try:
            weight = float(parameters.strip().removeprefix("q=")) if parameters.strip() else 1.0
        except ValueError:
            continue
        wishes.append((-weight, tag.split("-")[0].lower()))
    return next((tag for weight, tag in sorted(wishes, key=lambda wish: wish[0]) if tag in LANGUAGES and weight), "en")


@functools.cache
def environment() -> Environment:
    """The templates of the reading room: values are escaped, and a missing value is an error.

    Names: `_`, `ngettext`, `static("style.css")`, `languages`. Filters: `day` and `moment` of dates, `ago` of days, `age` of a
    number of days, `printable`.
    """
    env = open_templates("fundoscope.server", static=static_address, languages=LANGUAGES)
    env.filters.update(day=write_day, moment=write_moment, ago=write_distance, age=write_age)
    return env


def write_day(day: date | str | None) -> Markup | str:
    """A day as people write it: 28 Nov 2026, 2026年11月28日; blank for None. ISO 8601 is read, too."""
    if not day:
        return ""
    day = date.fromisoformat(day) if isinstance(day, str) else day
    chinese = current_language() == "zh"
    text = format_date(day, "y年M月d日" if chinese else "d MMM y", _LOCALES[current_language()])
    return _time(day.isoformat(), text)


def write_moment(moment: datetime | None) -> Markup | str:
    """A moment by the clock of this computer: 28 Nov 2026, 14:05; blank for None."""
    if moment is None:
        return ""
    local = moment.astimezone()
    chinese = current_language() == "zh"
    text = format_datetime(
        local, "y年M月d日 HH:mm" if chinese else "d MMM y, HH:mm", locale=_LOCALES[current_language()]
    )
    return _time(local.isoformat(timespec="seconds"), text)


def write_distance(day: date | None, today: date | None = None) -> str:
    """How far a day is from today: in 3 days, tomorrow, today, 2 days ago; blank for None."""
    if day is None:
        return ""
    days = (day - (today or date.today())) // timedelta(days=1)
    if days == 0:
        return gettext("today")
    if days == 1:
        return gettext("tomorrow")
    if days > 0:
        return ngettext("in {n} day", "in {n} days", days).format(n=days)
    return ngettext("{n} day ago", "{n} days ago", -days).format(n=-days)


def write_age(days: int | None) -> str:
    """An age in weeks and days, as neonatology counts it: 33 w 5 d; blank for None."""
    return (
        ""
        if days is None
        else gettext("{weeks} w {days} d").format(weeks=days // 7, days=days % 7).replace(" ", "\u00a0")
    )


@dataclass(frozen=True)
class StaticFile:
    """A file that pages load: its bytes, its media type, and a digest of its bytes (12 hexadecimal digits)."""

    content: bytes
    media_type: str
    digest: str


@functools.cache
def static_files() -> Mapping[str, StaticFile]:
    """The files that pages load, by their path in the folder `static`."""
    found: dict[str, StaticFile] = {}

    def collect(folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                collect(entry, f"{prefix}{entry.name}/")
            elif (ending := "." + entry.name.rpartition(".")[2]) in _TYPES:
                content = entry.read_bytes()
                digest = hashlib.sha256(content).hexdigest()[:12]
                found[prefix + entry.name] = StaticFile(content, _TYPES[ending], digest)

    collect(files("fundoscope.server") / "static", "")
    return found


def static_address(name: str) -> str:
    """The address of a file in `static`; it changes with the content, so that browsers keep what they have. `KeyError`: no such file."""
    return f"/static/{name}?v={static_files()[name].digest}"


def _read_flash(request: Request) -> list[tuple[str, str]]:
    """The message that `redirect` left for this page; whatever else stands in the cookie is nothing."""
    try:
        kind, text = json.loads(base64.urlsafe_b64decode(request.cookies.get(FLASH_COOKIE, "")))
    except (ValueError, TypeError):
        return []
    return [("bad" if kind == "bad" else "good", str(text)[:FLASH_CHARACTERS])]


def _is_tls(request: Request) -> bool:
    return request.url.scheme == "https"


def _time(machine: str, text: str) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(machine, escape(text))
