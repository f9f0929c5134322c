"""Signing in at an identity provider by OpenID Connect: the code flow with state, nonce and PKCE.

The provider says who somebody is, never what they may do: only an account that an administrator has given this identity lets in.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oauth2.claims import ClaimsOption
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from fundoscope.errors import FundoscopeError
from fundoscope.languages import gettext as _
from fundoscope.server.errors import NotAllowedError, ServerError
from fundoscope.server.security.hosts import is_loopback
from fundoscope.server.security.secrets import digest, new_secret
from fundoscope.server.settings import FLOW_SECONDS, SingleSignOn

MOST_FLOWS = 2_000
#: What the provider says of itself and its keys is read again after this time.
KEEP_SECONDS = 3600
TIMEOUT_SECONDS = 10
LEEWAY_SECONDS = 60
#: Signatures by a key that only the provider has; never `none`, never a shared secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")


class ProviderError(ServerError):
    """The identity provider cannot be reached, or does not answer as OpenID Connect says."""

    status = 502


@dataclass(frozen=True)
class Flow:
    """A sign-in that is under way: what only this browser and this room know of it."""

    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    wanted: str
    until: float


class Provider:
    """One identity provider."""

    def __init__(self, settings: SingleSignOn) -> None:
        self._settings = settings
        self._flows: OrderedDict[str, Flow] = OrderedDict()
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Any]] = {}

    def begin(self, redirect_uri: str, wanted: str) -> tuple[str, str]:
        """The provider's address to send the browser to, and the secret that the browser keeps meanwhile."""
        endpoint = self._configuration()["authorization_endpoint"]
        flow = Flow(
            new_secret(), new_secret(), secrets.token_urlsafe(48), redirect_uri, wanted, time.monotonic() + FLOW_SECONDS
        )
        with self._client(redirect_uri) as client:
            address, _state = client.create_authorization_url(
                endpoint, state=flow.state, code_verifier=flow.verifier, nonce=flow.nonce
            )
        ticket = new_secret()
        with self._lock:
            self._flows[digest(ticket)] = flow
            while len(self._flows) > MOST_FLOWS:
                self._flows.popitem(last=False)
        return address, ticket

    def finish(self, ticket: str, returned: dict[str, str]) -> tuple[str, str]:
        """The identity ("issuer subject") by what the browser brings back, and where it wanted to go.

        Raises `NotAllowedError` where it was not this browser that began, or the provider says no.
        """
        with self._lock:
            flow = self._flows.pop(digest(ticket), None)  # once only
        if (
            flow is None
            or flow.until < time.monotonic()
            or not secrets.compare_digest(returned.get("state", ""), flow.state)
        ):
            raise NotAllowedError(_("This sign-in was not begun here, or too long ago. Begin again."))
        if "code" not in returned:
            raise NotAllowedError(_("The single sign-on did not let you in. Begin again, or ask whoever runs it."))
        if returned.get("iss", self._settings.issuer) != self._settings.issuer:  # RFC 9207
            raise NotAllowedError(_("Another identity provider answered. Begin again."))
        try:
            with self._client(flow.redirect_uri) as client:
                answer = client.fetch_token(
                    self._configuration()["token_endpoint"], grant_type="authorization_code", code=returned["code"],
                    code_verifier=flow.verifier, redirect_uri=flow.redirect_uri,
                )  # fmt: skip
        except (OAuthError, httpx2.HTTPError, ValueError) as error:
            raise ProviderError(_("The identity provider did not confirm the sign-in. Begin again.")) from error
        claims = self._check_token(str(answer.get("id_token", "")), flow.nonce)
        return f"{claims['iss']} {claims['sub']}", flow.wanted

    def _check_token(self, token: str, nonce: str) -> dict[str, Any]:
        """The claims of an ID token: signed by the provider, for this room, in time, and for this sign-in."""
        values: dict[str, ClaimsOption] = {
            "iss": {"essential": True, "value": self._settings.issuer},
            "aud": {"essential": True, "value": self._settings.client_id},
            "sub": {"essential": True},
            "nonce": {"essential": True, "value": nonce},
        }
        try:
            try:
                read = jwt.decode(token, KeySet.import_key_set(self._keys()), list(ALGORITHMS))
            except (JoseError, ValueError):  # the provider may have new keys
                read = jwt.decode(token, KeySet.import_key_set(self._keys(anew=True)), list(ALGORITHMS))
            claims = CodeIDToken(
                read.claims, read.header, values, {"nonce": nonce, "client_id": self._settings.client_id}
            )
            claims.validate(int(time.time()), LEEWAY_SECONDS)
        except (JoseError, ValueError) as error:
            raise NotAllowedError(_("The identity provider's answer is not valid. Begin again.")) from error
        if not claims["sub"] or not isinstance(claims["sub"], str):
            raise NotAllowedError(_("The identity provider's answer is not valid. Begin again."))
        return dict(claims)

    def _client(self, redirect_uri: str) -> OAuth2Client:
        secret = self._settings.client_secret
        return OAuth2Client(
            self._settings.client_id, secret, scope=self._settings.scope, redirect_uri=redirect_uri,
            code_challenge_method="S256", timeout=TIMEOUT_SECONDS,
            token_endpoint_auth_method="client_secret_basic" if secret else "none",
        )  # fmt: skip

    def _configuration(self) -> dict[str, Any]:
        found = self._fetch(self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != self._settings.issuer:
            raise ProviderError(_("The identity provider calls itself by another name than the settings do."))
        return found

    def _keys(self, anew: bool = False) -> Any:
        return self._fetch(self._configuration()["jwks_uri"], anew)

    def _fetch(self, address: str, anew: bool = False) -> dict[str, Any]:
        """JSON from the provider; kept for an hour, since it changes rarely."""
        kept = self._kept.get(address)
        if kept is not None and not anew and time.monotonic() - kept[0] < KEEP_SECONDS:
            return kept[1]
        try:
            check_address(address)
            answer = httpx2.get(address, timeout=TIMEOUT_SECONDS)
            answer.raise_for_status()
            found = answer.json()
            if not isinstance(found, dict):
                raise ValueError("no JSON object")
        except (httpx2.HTTPError, ValueError) as error:
            raise ProviderError(
                _("The identity provider cannot be reached. Try again later, or sign in by password.")
            ) from error
        self._kept[address] = (time.monotonic(), found)
        return found


class AddressError(FundoscopeError, ValueError):
    """An address of the identity provider that is not asked."""


def check_address(address: str) -> None:
    """Raise `AddressError` for what could be read on its way: anything but https, or http on loopback."""
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise AddressError(f"{address}: an identity provider is asked over https only. Correct the settings.")
