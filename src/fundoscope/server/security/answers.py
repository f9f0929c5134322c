"""What a request is answered that is refused or fails: problem+json under `/v1` (RFC 9457), a page elsewhere."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from fundoscope.errors import FundoscopeError
from fundoscope.languages import gettext as _
from fundoscope.server import pages
from fundoscope.server.errors import BusyError, MisdirectedError, NotSignedInError, ServerError, title_of
from fundoscope.server.services.inputs import describe_faults


def answer_error(request: Request, error: Exception) -> Response:
    """The answer to an error; what nobody foresaw is told without any detail."""
    if isinstance(error, NotSignedInError) and not wants_json(request):
        return _ask_to_sign_in(request)
    problem = describe_error(error, getattr(request.state, "request_id", ""))
    headers = {}
    if isinstance(error, BusyError) or problem["status"] == 503:
        headers["Retry-After"] = str(getattr(error, "retry_after", 5))
    if isinstance(error, HTTPException) and error.headers:
        headers |= dict(error.headers)
    if problem["status"] == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if wants_json(request) or isinstance(error, MisdirectedError):  # a page would need the address that is not ours
        return JSONResponse(problem, problem["status"], headers, media_type="application/problem+json")
    page = pages.render(
        request, getattr(request.state, "caller", None), "error.html.j2", problem["status"], problem=problem
    )
    page.headers.update(headers)
    return page


def wants_json(request: Request) -> bool:
    """Whether a program asks: by the path, or by the types it takes."""
    takes = request.headers.get("accept", "")
    return request.scope["path"].startswith("/v1/") or ("json" in takes and "html" not in takes)


def describe_error(error: Exception, code: str = "") -> dict[str, Any]:
    """The members of RFC 9457, and `field` where one value is at fault. `code` finds an error in the logs."""
    status, field = 500, ""
    detail = _("This was not foreseen, and nothing was changed. Tell whoever runs the room the code {code}.").format(
        code=code
    )
    if isinstance(error, ServerError):
        status, detail, field = error.status, str(error), getattr(error, "field", "")
    elif isinstance(error, FundoscopeError):
        status, detail = 422, str(error)
    elif isinstance(error, RequestValidationError):
        faults = describe_faults(error.errors())
        status, field = 422, next(iter(faults))
        detail = "; ".join(f"{name}: {fault}" if name else fault for name, fault in list(faults.items())[:5])
    elif isinstance(error, HTTPException):
        known = {
            404: _("There is no such page. Look for what you need in the worklist."),
            405: _("This address cannot be asked for in this way."),
        }
        status, detail = error.status_code, known.get(error.status_code, str(error.detail))
    elif isinstance(error, DataError):  # PostgreSQL's word on a character that it cannot hold
        status, detail = 422, _("A text holds a character that cannot be kept. Type it anew.")
    elif isinstance(error, OperationalError):
        status, detail = 503, _("The database does not answer in time. Try again in a moment.")
    problem = {"type": "about:blank", "title": title_of(status), "status": status, "detail": detail}
    return problem | ({"field": field} if field else {})


def _ask_to_sign_in(request: Request) -> Response:
    """To the page that asks for the password, and back to where one wanted to go."""
    way = "/unlock" if getattr(request.state, "locked", False) else "/sign-in"
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.headers.get("hx-request"):  # a part of a page: the whole page goes
        return Response(status_code=401, headers={"HX-Redirect": way})
    target = f"{way}?next={quote(wanted)}" if request.method == "GET" and wanted != "/" else way
    return RedirectResponse(target, 303)
