"""Scripts, styles and icons of the package."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from fundoscope.server.pages import YEAR_SECONDS, static_files

router = APIRouter(include_in_schema=False)


@router.get("/static/{name:path}")
def send_static(request: Request, name: str, v: str = "") -> Response:
    """A file of the package; for a year where the address holds the digest of its content."""
    file = static_files().get(name)
    if file is None:
        return PlainTextResponse("There is no such file.", 404)
    headers = {
        "ETag": f'"{file.digest}"',
        "Cache-Control": f"public, max-age={YEAR_SECONDS}, immutable" if v == file.digest else "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


@router.get("/favicon.ico")
def send_icon(request: Request) -> Response:
    """The icon for browsers that look where no page sent them."""
    return send_static(request, "icon.svg")
