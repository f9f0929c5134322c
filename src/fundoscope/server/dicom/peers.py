"""An association with another application entity, or why there is none."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

from fundoscope.errors import FundoscopeError
from fundoscope.server.dicom import troubles
from fundoscope.server.dicom.settings import DimsePeer

_config.LOG_HANDLER_LEVEL = "none"  # names of patients stand in what it would write
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False

VERIFICATION = "1.2.840.10008.1.1"
_SECONDS_TO_CONNECT = 10.0


class PeerError(FundoscopeError):
    """There is no association with another application entity, or it has ended; the message says what to do."""


@contextmanager
def associate(
    peer: DimsePeer, contexts: Sequence[PresentationContext], handlers: Sequence[tuple[Any, Callable[..., Any]]] = ()
) -> Generator[Association]:
    """An association with a peer for the block; raises `PeerError` where there is none. It is released at the end."""
    entity = AE(peer.calling)
    entity.connection_timeout = min(_SECONDS_TO_CONNECT, peer.seconds)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = peer.seconds
    connected: list[bool] = []

    def open_line(event: Event) -> None:
        send_at_once(event.assoc)
        connected.append(True)

    tls = None if peer.tls is None else (peer.tls.client_context(), peer.host)
    found = entity.associate(
        peer.host, peer.port, contexts=list(contexts), ae_title=peer.title, tls_args=tls,
        evt_handlers=[(evt.EVT_CONN_OPEN, open_line), *handlers],
    )  # fmt: skip
    try:
        if not found.is_established:
            raise PeerError(f"{peer}: {_why_not(peer, found, bool(connected))}")
        yield found
    finally:
        if found.is_established:
            found.release()


def send_at_once(association: Association) -> None:
    """Have the last piece of a message sent without waiting until the other side has confirmed the piece before it.

    That side may confirm up to half a second late (RFC 1122, 4.2.3.2; 40 ms on Linux), once for each object.
    """
    carrier = association.dul.socket
    if carrier is not None and carrier.socket is not None:
        carrier.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why_not(peer: DimsePeer, tried: Association, connected: bool) -> str:
    if tried.is_rejected:
        answer = tried.acceptor.primitive
        source, reason = (answer.result_source, answer.diagnostic) if answer is not None else (0, 0)
        known = troubles.REJECTIONS.get((source, reason), troubles.OTHER_REJECTION)
        return troubles.REJECTED.format(why=known.format(source=source, reason=reason, **peer.model_dump()))
    if not connected:
        return troubles.NOBODY_BY_DIMSE if peer.tls is None else troubles.NOBODY_BY_TLS
    if tried.rejected_contexts:
        return troubles.NOTHING_ACCEPTED
    return troubles.CUT_OFF_PLAIN if peer.tls is None else troubles.CUT_OFF


def send_echo(peer: DimsePeer) -> str:
    """Ask a peer for an answer (C-ECHO); what it calls its program. Raises `PeerError` where it does not answer with success."""
    from pynetdicom import build_context

    with associate(peer, [build_context(VERIFICATION)]) as association:
        status = association.send_c_echo()
        if status.get("Status") != 0:
            told = f"0x{status.Status:04X}" if "Status" in status else "nothing"
            raise PeerError(f"{peer}: {troubles.ECHO_REFUSED.format(status=told)}")
        said = association.acceptor.implementation_version_name
        return said.decode("ascii", "replace") if isinstance(said, bytes) else str(said or "")
