"""Who stands at the other end: a browser, or a reverse proxy that was stated and whose word is believed."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from starlette.types import Scope

from fundoscope.languages import gettext as _
from fundoscope.server.errors import NotAllowedError
from fundoscope.server.security.hosts import is_loopback
from fundoscope.server.settings import ServerSettings


class Peers:
    """Reads what a stated proxy says of a request; raises on what comes past it."""

    def __init__(self, settings: ServerSettings) -> None:
        self._proxies = [ip_network(one, strict=False) for one in settings.proxies]
        #: Without TLS of our own, only the proxy brings requests from beyond this machine.
        self._proxies_only = settings.certificate is None and not is_loopback(settings.host)

    def identify(self, scope: Scope) -> None:
        """Set `client` and `scheme` of a request to what they are before the proxies.

        Forwarded addresses are read from the last one back, past all stated proxies: those before can be made up. Raises
        `NotAllowedError` for a request in clear that comes past the proxy.
        """
        peer = scope["client"][0] if scope.get("client") else ""
        if not self._is_proxy(peer):
            if self._proxies_only and not is_loopback(peer):
                raise NotAllowedError(_("This address is for the reverse proxy. Use the room's own name."))
            return
        chain = [one.strip() for one in _values(scope, b"x-forwarded-for") if one.strip()]
        while chain and self._is_proxy(chain[-1]):
            chain.pop()
        if chain:
            scope["client"] = (_plain_address(chain[-1]), 0)
        schemes = _values(scope, b"x-forwarded-proto")
        if schemes and schemes[-1].strip() in ("http", "https"):
            scope["scheme"] = schemes[-1].strip()

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self._proxies)


def _values(scope: Scope, name: bytes) -> list[str]:
    return [one for key, value in scope["headers"] if key == name for one in value.decode("latin-1").split(",")]


def _plain_address(text: str) -> str:
    """The address, or `unknown` where what the proxy tells is none."""
    try:
        return str(ip_address(text))
    except ValueError:
        return "unknown"
