"""What all routes under `/v1` share: pages of lists, requests that may be sent twice, and how errors look.

A list answers `{"items": [...], "next": cursor or null}`. A POST goes through `Once`: with an `Idempotency-Key` it is done once, and
its answer is given again, byte for byte, to whoever sends it again. Errors are problem+json (RFC 9457).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from fundoscope.languages import gettext as _
from fundoscope.server.errors import InvalidError
from fundoscope.server.permissions import Caller
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.services.idempotency import KeptAnswer, find_answer, keep_answer

T = TypeVar("T")

#: The head of `/v1/openapi.json`.
DESCRIPTION = """Everything that the pages of the reading room do, for programs.

Make a token on your account's page and send it as `Authorization: Bearer TOKEN`. Lists come in pages: send `next` of one page as
`cursor` of the following call. A POST with an `Idempotency-Key` is done once, however often it is sent. Errors are problem+json.
Ages at birth are written in weeks and days (28+3), days as YYYY-MM-DD, moments in UTC, weights in g. Research use only."""
TAGS = [
    {"name": "account", "description": "Whose token it is; tokens."},
    {"name": "worklist", "description": "What waits for somebody, the most urgent first."},
    {"name": "patients", "description": "Infants and adults, and what is due for them by which rule."},
    {"name": "exams", "description": "Visits, from the first photograph to the signature."},
    {"name": "photographs", "description": "Photographs in, what the tool said of them, pictures out."},
    {"name": "readings", "description": "What readers found, and signed."},
    {"name": "reports", "description": "Reports of signed readings, as they were given out."},
    {"name": "exports", "description": "Tables and patches for studies, de-identified."},
    {"name": "second readings", "description": "Agreement of readers, accuracy of the tool and of readers."},
    {"name": "programme", "description": "Coverage, overdue, lost to follow-up."},
    {"name": "corrections", "description": "What was put right, and why."},
    {"name": "jobs", "description": "Work that waits, runs, is done or has failed."},
    {"name": "sites", "description": "Places and their rules."},
    {"name": "accounts", "description": "People; for administrators."},
    {
        "name": "PACS",
        "description": "Where answers go, where photographs come from (for administrators); answers on their way.",
    },
    {"name": "audit", "description": "Who did what; for administrators."},
    {"name": "health", "description": "Whether the room works."},
]

LARGEST = 2**31 - 1  # that a number of a row can be

#: A number of a row in a path.
RowNumber = Annotated[int, Path(ge=1, le=LARGEST, description="The number of the row.", examples=[7])]
#: A number of a row that a list is filtered by.
RowFilter = Annotated[int | None, Query(ge=1, le=LARGEST)]
#: How many items a page of a list holds.
Limit = Annotated[int, Query(ge=1, le=200, description="How many items the page may hold.")]
#: Where a list goes on.
Cursor = Annotated[str, Query(max_length=500, description="`next` of the page before; blank for the first page.")]


class Problem(BaseModel):
    """What went wrong (RFC 9457): `detail` names the input and ends with what to do; `field` names the value at fault."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    field: str | None = None


class ListPage(BaseModel, Generic[T]):
    """A page of a list; `next` is the `cursor` of the page after it, null on the last one."""

    items: list[T]
    next: str | None = None


def _problem(description: str, detail: str, status: int, title: str, **more: str) -> dict[str, Any]:
    example = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    content = {"application/problem+json": {"schema": Problem.model_json_schema(), "example": example}}
    return {"description": description, "content": content}


#: The errors of every route, for `responses=` of a router.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: _problem("The request is not HTTP as the room takes it", "There was an error parsing the body", 400, "The request cannot be done"),
    401: _problem("No token, or one that has expired", "Nobody is signed in. Sign in, or send a token.", 401, "Sign in first"),
    403: _problem("The role may not do this", "This needs the role technician or reader; Ada is administrator.", 403, "Not allowed"),
    404: _problem("Nothing of that number, or something of another site", "There is no exam 7 here. Look for it in the worklist.", 404, "Not found"),
    409: _problem("The state of things does not allow it", "The exam is signed. A reader can correct the reading, or add to it.", 409, "This cannot be done now"),
    422: _problem("A value cannot be taken", "'28+9' is no gestational age. Write weeks and days, such as 28+3.", 422, "A value cannot be taken", field="gestational_age"),
    429: _problem("Asked too often: wait for the seconds of Retry-After", "Too many requests. Wait a moment.", 429, "Too busy"),
    503: _problem("A queue is full: wait for the seconds of Retry-After", "2000 photographs wait to be judged already.", 503, "Too busy"),
}  # fmt: skip


def write_cursor(*keys: int | str) -> str:
    """The cursor that goes on after a row with these keys."""
    return base64.urlsafe_b64encode(json.dumps(keys).encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int | None:
    """The number of the row that a cursor goes on after; None for a blank one. Raises `InvalidError` for one that is none."""
    if not cursor:
        return None
    with suppress(ValueError, TypeError):
        keys = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        (number,) = keys
        if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= LARGEST:
            return number
    raise InvalidError(_("This is no cursor. Send `next` of the page before, as it came."), "cursor")


def make_page(items: list[T], limit: int, number: Callable[[T], int]) -> ListPage[T]:
    """A page of rows that are ordered by their number; the list was asked for one more than `limit`."""
    following = write_cursor(number(items[limit - 1])) if len(items) > limit else None
    return ListPage(items=items[:limit], next=following)


@dataclass(frozen=True)
class OnceRequest:
    """A change that a program asks for, to be done once: by whom, under which key (blank: none), with which content."""

    room: Room
    caller: Caller
    path: str
    key: str
    digest: str

    def answer(self, work: Callable[[Session, Caller], BaseModel], status: int = 200) -> Response:
        """Do `work` in one transaction and answer with what it returns; where the key came before, with the answer of then.

        What `work` raises leaves nothing, so that the same request can be sent again. A row that was made (201) has a Location.
        """
        with self.room.database.transaction() as session:
            kept = find_answer(session, self.caller, self.key, self.digest) if self.key else None
            if kept is None:
                made = work(session, self.caller)
                number = getattr(made, "id", None) if status == 201 else None
                kept = KeptAnswer(status, made.model_dump_json(), f"{self.path}/{number}" if number else "")
                if self.key:
                    keep_answer(session, self.caller, self.key, kept)
        headers = {"Location": kept.location} if kept.location else {}
        return Response(kept.body, kept.status, headers, media_type="application/json")


IdempotencyHeader = Annotated[
    str,
    Header(
        alias="Idempotency-Key", max_length=200, pattern=r"^[\x21-\x7e]*$",
        description="A text of your own for this request, such as a UUID: sent again with it, the request is done once.",
    ),
]  # fmt: skip


async def read_once(request: Request, room: TheRoom, caller: TheCaller, key: IdempotencyHeader = "") -> OnceRequest:
    """The request with the digest of its method, address and body."""
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    digest.update(await request.body())
    return OnceRequest(room, caller, request.url.path, key, digest.hexdigest())


Once = Annotated[OnceRequest, Depends(read_once)]
