"""Under which names the room may be called, and from which pages a change may come.

A page of another site can make a browser send requests to loopback, and by a name that it turns to 127.0.0.1 ("DNS rebinding") even
read the answers. Both are refused here, on loopback too: by the list of names, and by the origin that browsers send with a change.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.requests import Request

from fundoscope.languages import gettext as _
from fundoscope.server.errors import MisdirectedError, NotAllowedError
from fundoscope.server.settings import ServerSettings

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_loopback(host: str) -> bool:
    """Whether a name or an address is of this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def known_hosts(settings: ServerSettings) -> frozenset[str]:
    """The names under which the room may be called: loopback, what is stated, and the one address that it listens on."""
    stated = {name.lower().strip("[]") for name in (*settings.hosts, settings.host)}
    return LOOPBACK | (stated - {"", "0.0.0.0", "::"})


def check_host(request: Request, known: frozenset[str]) -> None:
    """Raise `MisdirectedError` where the request names a host that is not ours."""
    name = split_host(request.headers.get("host", ""))
    if name not in known:
        raise MisdirectedError(
            _("This room is not called by that name. Whoever runs it states its names by --host-name.")
        )


def check_origin(request: Request) -> None:
    """Raise `NotAllowedError` for a change that a page of another origin asks for, or that does not say from where it comes."""
    if request.method in SAFE_METHODS:
        return
    said = request.headers.get("origin")
    if said is None and request.headers.get("referer"):
        parts = urlsplit(request.headers["referer"])
        said = f"{parts.scheme}://{parts.netloc}"
    if said is None or said.lower() != f"{request.scope['scheme']}://{request.headers.get('host', '')}".lower():
        raise NotAllowedError(
            _("The request came from another site's page, so nothing was done. Open the room itself and try again.")
        )


def split_host(host: str) -> str:
    """The name without its port, in small letters; blank for what is no host."""
    try:
        return (urlsplit(f"//{host}").hostname or "") if "/" not in host and "@" not in host else ""
    except ValueError:
        return ""
