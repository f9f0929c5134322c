"""Another application entity: where it listens, what it is called, TLS; an association with it, and why there is none."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from fundoscope.errors import FundoscopeError, UsageError

_config.LOG_HANDLER_LEVEL = "none"  # names of patients stand in what it would write
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False

OUR_TITLE = "FUNDOSCOPE"
VERIFICATION = "1.2.840.10008.1.1"
_ADDRESS = re.compile(r"(?P<title>[^@]{1,16})@(?P<host>\[[0-9a-fA-F:.]+\]|[^@:\s\[\]]+):(?P<port>\d{1,5})")
_SECONDS_TO_CONNECT = 10.0
#: Why an association was rejected, in words (PS3.8, table 9-21), by source and reason.
_REJECTED = {
    (1, 1): "it gives no reason",
    (1, 3): "it does not know our title {calling}: enter it there",
    (1, 7): "it is not called {title}",
    (2, 2): "it speaks another version of the protocol",
    (3, 1): "it is busy: try again later",
    (3, 2): "it has reached its limit of associations: try again later",
}


def check_title(title: str) -> str:
    """A title of an application entity (PS3.5, table 6.2-1): 1 to 16 characters of ASCII, no backslash; `ValueError` for another."""
    title = title.strip()
    if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ValueError(f"'{title}' is no AE title. Take 1 to 16 letters and digits.")
    return title


AeTitle = Annotated[str, AfterValidator(check_title)]


class PeerError(FundoscopeError):
    """There is no association with another application entity, or it has ended; the message says what to do."""


class TlsFiles(BaseModel):
    """PEM files for TLS.

    `authority` holds the certificates of those whom we believe; None: those of the system, and in a receiver nobody is asked for
    one. `certificate` and `key` show who we are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    check_name: bool = True  # whether the certificate of the other side must name its host

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key go together: give both or none")
        return self

    def client_context(self) -> ssl.SSLContext:
        """The context of who calls; raises `UsageError` for files that cannot be used."""
        try:
            made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.authority)
            made.check_hostname = self.check_name
            if self.certificate is not None:
                made.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise self._unusable(error) from error
        return made

    def server_context(self) -> ssl.SSLContext:
        """The context of who listens: with an `authority` callers must show a certificate of its. Raises `UsageError` as above."""
        if self.certificate is None:
            raise UsageError("TLS: who listens needs a certificate and its key. Name both PEM files.")
        try:
            made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.authority)
            made.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise self._unusable(error) from error
        if self.authority is not None:
            made.verify_mode = ssl.CERT_REQUIRED
        return made

    def _unusable(self, error: Exception) -> UsageError:
        files = ", ".join(str(each) for each in (self.certificate, self.key, self.authority) if each is not None)
        return UsageError(f"{files}: cannot be used for TLS ({error}). Name PEM files that belong together.")


class DimsePeer(BaseModel):
    """Another application entity, called `title`; `calling` is what we call ourselves there.

    With `commitment` it is asked to commit itself to what was sent; its report is waited for `commitment_seconds`. `seconds` is how
    long one answer may take.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: AeTitle
    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65535)
    calling: AeTitle = OUR_TITLE
    tls: TlsFiles | None = None
    commitment: bool = False
    commitment_seconds: float = Field(10.0, ge=0)
    seconds: float = Field(60.0, gt=0)

    def __str__(self) -> str:
        return f"{self.title}@{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @classmethod
    def parse(cls, address: str, **more: Any) -> DimsePeer:
        """The peer of TITLE@HOST:PORT; `more` are other fields. Raises `UsageError` for what is no such address."""
        found = _ADDRESS.fullmatch(address.strip())
        if found is None:
            raise UsageError(f"{address}: is no address. Write it as TITLE@HOST:PORT, such as ORTHANC@127.0.0.1:4242.")
        try:
            return cls(title=found["title"], host=found["host"].strip("[]"), port=int(found["port"]), **more)
        except ValidationError as error:
            one = error.errors()[0]
            raise UsageError(
                f"{address}: {one['loc'][0]}: {one['msg'].removeprefix('Value error, ')}. Write TITLE@HOST:PORT."
            ) from error


@contextmanager
def associate(
    peer: DimsePeer, contexts: Sequence[PresentationContext], handlers: Sequence[tuple[Any, Callable[..., Any]]] = ()
) -> Generator[Association]:
    """An association with a peer for the block; raises `PeerError` where there is none. It is released at the end."""
    entity = AE(peer.calling)
    entity.connection_timeout = min(_SECONDS_TO_CONNECT, peer.seconds)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = peer.seconds
    connected: list[bool] = []
    tls = None if peer.tls is None else (peer.tls.client_context(), peer.host)
    found = entity.associate(
        peer.host, peer.port, contexts=list(contexts), ae_title=peer.title, tls_args=tls,
        evt_handlers=[(evt.EVT_CONN_OPEN, lambda _: connected.append(True)), *handlers],
    )  # fmt: skip
    try:
        if not found.is_established:
            raise PeerError(f"{peer}: {_why_not(peer, found, bool(connected))}")
        yield found
    finally:
        if found.is_established:
            found.release()


def _why_not(peer: DimsePeer, tried: Association, connected: bool) -> str:
    if tried.is_rejected:
        answer = tried.acceptor.primitive
        reason = (answer.result_source, answer.diagnostic) if answer is not None else (0, 0)
        told = _REJECTED.get(reason, f"source {reason[0]}, reason {reason[1]}").format(**peer.model_dump())
        return f"the association was rejected: {told}."
    if not connected:
        secured = " by TLS" if peer.tls is not None else ""
        return f"nothing answers there{secured}. Check host and port, and that it runs and may be reached."
    if tried.rejected_contexts:
        return "it takes nothing of what we offered. Ask its administrator which classes it stores."
    secured = "" if peer.tls is not None else " It may ask for TLS."
    return f"the connection was cut before an association was agreed on.{secured} Look into its log."


def send_echo(peer: DimsePeer) -> str:
    """Ask a peer for an answer (C-ECHO); what it calls its program. Raises `PeerError` where it does not answer with success."""
    from pynetdicom import build_context

    with associate(peer, [build_context(VERIFICATION)]) as association:
        status = association.send_c_echo()
        if status.get("Status") != 0:
            told = f"0x{status.Status:04X}" if "Status" in status else "nothing"
            raise PeerError(f"{peer}: it answered the echo with {told}. Look into its log.")
        said = association.acceptor.implementation_version_name
        return said.decode("ascii", "replace") if isinstance(said, bytes) else str(said or "")
