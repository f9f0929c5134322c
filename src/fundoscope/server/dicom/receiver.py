"""Photographs in by C-STORE: who may send, how much, and what is answered. What becomes of an object is decided by a `Take`.

Whoever is not on the list of addresses is cut off before a byte is read. A title is what a caller says of itself: it protects nothing.
An object is answered with success after its `Take` has returned, which must have it safely on the disk by then; so whatever was
answered is there after a kill -9 and what was not is sent again, to be recognised by its SOP Instance UID.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self, cast

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from fundoscope.errors import PhotographError, UsageError, printable
from fundoscope.imaging import DicomHeader
from fundoscope.imaging.dicom_header import PHOTOGRAPH_CLASSES, read_dicom_header
from fundoscope.server.dicom import troubles
from fundoscope.server.dicom.commitment import PUSH_MODEL, CommitmentReports, HeardReports, read_report
from fundoscope.server.dicom.peers import VERIFICATION, send_at_once
from fundoscope.server.dicom.settings import Network, ReceiverSettings
from fundoscope.server.errors import BusyError, ServerError

#: What the reader of photographs takes (docs/reference/dicom.md), the lossless ones first.
TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55", "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.2",
)  # fmt: skip
SUCCESS, OUT_OF_RESOURCES, DOES_NOT_FIT, NOT_UNDERSTOOD, FAILED = 0x0000, 0xA700, 0xA900, 0xC000, 0x0110
_COMMENT_LENGTH = 64  # characters of an error comment (VR LO)
_UNIT_BYTES = 1 << 18  # of one message unit (PDU) that we ask for; fewer and larger ones take less time
_LONGEST_UNIT = 4 * _UNIT_BYTES  # that is read
_POLL_SECONDS = 0.1  # until a server hears that it is to end
_HANDSHAKE_SECONDS = 10.0  # for TLS
_UID = re.compile(r"(?=.{3,64}\Z)[0-9]+(\.[0-9]+)+")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReceivedObject:
    """An object as it came: a whole DICOM file with a zeroed preamble, its header, and who sent it."""

    data: bytes
    header: DicomHeader
    caller: str
    address: str

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.data).hexdigest()


class RefusedObject(Exception):  # noqa: N818 - not an error of the program
    """An object that is not taken: the status that says so, and why; `lasts` where sending it again will not help."""

    def __init__(self, status: int, why: str, lasts: bool | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.lasts = status != OUT_OF_RESOURCES if lasts is None else lasts


#: Takes an object onto the disk, or raises `RefusedObject`, `BusyError` or another error of the room.
Take = Callable[[ReceivedObject], None]


class Receiver:
    """Listens within `with`. `folder` is where the disk must have room; `reports` hears what a PACS says on commitment.

    `tell` hears of what was refused for good.
    """

    def __init__(
        self, settings: ReceiverSettings, take: Take, folder: Path, reports: CommitmentReports | None = None,
        tell: Callable[[troubles.Refusal], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._take, self._tell = take, tell
        self._folder = folder
        self._reports = HeardReports() if reports is None else reports
        self._counts: dict[Association, int] = {}
        entity = AE(settings.title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(settings.callers)
        entity.maximum_associations = settings.associations
        entity.maximum_pdu_size = _UNIT_BYTES
        entity.acse_timeout = min(30.0, settings.idle_seconds)
        entity.network_timeout = entity.dimse_timeout = settings.idle_seconds
        entity.add_supported_context(VERIFICATION)
        entity.add_supported_context(PUSH_MODEL, scu_role=False, scp_role=True)
        for each in PHOTOGRAPH_CLASSES:
            entity.add_supported_context(each, list(TRANSFER_SYNTAXES))
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store), (evt.EVT_N_EVENT_REPORT, self._hear), (evt.EVT_ACCEPTED, self._open),
            (evt.EVT_CONN_CLOSE, self._close),
        ]  # fmt: skip
        tls = None if settings.tls is None else settings.tls.server_context()
        try:
            made = entity.make_server(
                (settings.host, settings.port), ssl_context=tls, evt_handlers=handlers, server_class=_Server,
                request_handler=_Handler,
            )  # fmt: skip
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"{settings.host}:{settings.port}: cannot be listened on ({error}). Take another port, or an address of this computer."
            ) from error
        self._server = cast(_Server, made)
        self._server.networks = settings.networks
        self._server.budget = 2 * settings.object_bytes + _LONGEST_UNIT  # what is just too large is told in an answer
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=[_POLL_SECONDS], name="receiver", daemon=True
        )
        entity._servers.append(self._server)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End: associations are aborted, what was answered is safe."""
        self._server.shutdown()
        for association in self._server.active_associations:
            association.abort()
        self._thread.join()

    # --- what a caller asks

    def _open(self, event: Event) -> None:
        self._counts[event.assoc] = 0
        send_at_once(event.assoc)
        _log.info("association with %s at %s", event.assoc.requestor.ae_title, _address(event.assoc))

    def _close(self, event: Event) -> None:
        count = self._counts.pop(event.assoc, None)
        if count is not None:
            _log.info("association with %s ended, %s objects", event.assoc.requestor.ae_title, count)

    def _store(self, event: Event) -> int | Dataset:
        association = event.assoc
        self._counts[association] = self._counts.get(association, 0) + 1
        try:
            self._take(self._look_at(event))
            return SUCCESS
        except RefusedObject as refused:
            return self._refuse(event, refused.status, str(refused), refused.lasts)
        except BusyError as error:
            return _answer(OUT_OF_RESOURCES, str(error))
        except ServerError as error:
            return self._refuse(event, NOT_UNDERSTOOD, str(error), True)
        except OSError as error:  # the disk
            _log.exception("an object could not be kept")
            return _answer(OUT_OF_RESOURCES, error.strerror or "the disk cannot be written")
        except Exception:  # noqa: BLE001 - the caller must hear that it was not taken
            _log.exception("an object could not be taken")
            return _answer(FAILED, "the program failed; its log says more")
        finally:
            cast(_Socket, association.dul.socket).left = self._server.budget

    def _look_at(self, event: Event) -> ReceivedObject:
        """The object, within what may be sent; raises `RefusedObject`."""
        settings, association = self._settings, event.assoc
        if self._counts[association] > settings.association_objects:
            raise RefusedObject(OUT_OF_RESOURCES, f"more than {settings.association_objects} objects; open another one")
        if shutil.disk_usage(self._folder).free < settings.free_bytes:
            _log.error("the disk of %s is nearly full: nothing is received", self._folder)
            raise RefusedObject(OUT_OF_RESOURCES, "the disk is nearly full")
        data = event.encoded_dataset()  # with a file's head, its preamble zero
        if len(data) > settings.object_bytes:
            raise RefusedObject(
                OUT_OF_RESOURCES, troubles.TOO_LARGE_HERE.format(most=settings.object_bytes >> 20), True
            )
        asked = cast(C_STORE, event.request)
        name = str(asked.AffectedSOPInstanceUID)
        if not _UID.fullmatch(name):
            raise RefusedObject(DOES_NOT_FIT, troubles.NO_UID)
        try:
            header = read_dicom_header(data, name)
        except PhotographError as error:
            raise RefusedObject(NOT_UNDERSTOOD, f"{error.cause}. {error.remedy}") from error
        if header.sop_instance != name or header.sop_class != str(asked.AffectedSOPClassUID):
            raise RefusedObject(DOES_NOT_FIT, troubles.OTHERWISE_ANNOUNCED)
        if header.other_kind:
            raise RefusedObject(NOT_UNDERSTOOD, troubles.NO_PHOTOGRAPH.format(kind=header.other_kind))
        return ReceivedObject(data, header, str(association.requestor.ae_title).strip(), _address(association))

    def _refuse(self, event: Event, status: int, why: str, lasts: bool) -> Dataset:
        """The answer to what is not taken; where that lasts, somebody is told who can put it right."""
        if lasts:
            patient = ""
            with suppress(Exception):  # what cannot be read has no number
                patient = read_dicom_header(event.encoded_dataset(), "").patient
            uid = printable(str(cast(C_STORE, event.request).AffectedSOPInstanceUID))
            caller = str(event.assoc.requestor.ae_title).strip()
            try:
                self._tell(troubles.Refusal(uid, caller, _address(event.assoc), why, patient))
            except Exception:  # noqa: BLE001 - the database is away: the caller must hear of it all the same
                _log.exception("a refusal could not be written down")
        return _answer(status, why)

    def _hear(self, event: Event) -> tuple[int, None]:
        report = read_report(event.event_information)
        if self._reports.take(report):
            return SUCCESS, None
        _log.warning("a report on commitment that nobody asked for, from %s", _address(event.assoc))
        return FAILED, None


def _answer(status: int, why: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = why.encode("ascii", "replace").decode()[:_COMMENT_LENGTH].replace("\\", "/")
    _log.warning("an object was not taken: 0x%04X", status)
    return answer


def _address(association: Association) -> str:
    return str(association.requestor.address)


class _Socket(AssociationSocket):
    """Reads `left` bytes at most before somebody sets it anew: a caller cannot fill the memory. Reads them in large pieces."""

    left = 1 << 31

    def recv(self, nr_bytes: int) -> bytearray:
        """So many bytes, fewer where the connection ends; `OSError` beyond what is left."""
        self.left -= nr_bytes
        if nr_bytes > _LONGEST_UNIT or self.left < 0:
            _log.warning("a caller was cut off: it sends more than is taken")
            raise OSError("more bytes than are taken")
        assert self.socket is not None
        if hasattr(
            socket, "TCP_QUICKACK"
        ):  # a caller that waits for each confirmation has it at once; not kept by Linux for long
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        data = bytearray(nr_bytes)
        got = 0
        while got < nr_bytes and (more := self.socket.recv_into(memoryview(data)[got:])):
            got += more
        return data[:got] if got < nr_bytes else data


class _Handler(RequestHandler):
    """Gives each association a socket that counts."""

    def _create_association(self) -> Association:
        association = super()._create_association()
        assert association.dul.socket is not None
        association.dul.socket.__class__ = (
            _Socket  # made with its event already: a second one would be a second connection
        )
        cast(_Socket, association.dul.socket).left = cast(_Server, self.server).budget
        return association


class _Server(ThreadedAssociationServer):
    """Lets in whom the list names; does the handshake of TLS where it holds up nobody else."""

    networks: tuple[Network, ...] = ()
    budget = 1 << 31
    daemon_threads = True

    def service_actions(self) -> None:
        """Nothing: the base class would sweep the whole memory several times a minute."""

    def get_request(self) -> tuple[socket.socket, Any]:
        """A connection, before TLS."""
        assert self.socket is not None
        return self.socket.accept()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the caller's address is on the list."""
        address = ip_address(str(client_address[0]).partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if any(address in network for network in self.networks):
            return True
        _log.warning("a caller at %s is not on the list of those who may send", address)
        return False

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, in a thread of its own."""
        try:
            request.settimeout(self.ae.network_timeout)
            if self.ssl_context is not None:
                request.settimeout(_HANDSHAKE_SECONDS)
                request = self.ssl_context.wrap_socket(request, server_side=True)
                request.settimeout(self.ae.network_timeout)
            self.finish_request(request, client_address)
        except (OSError, ssl.SSLError) as error:
            _log.warning("no TLS with %s: %s", client_address[0], error)
            self.shutdown_request(request)
        except Exception:  # noqa: BLE001 - one caller must not end the server
            _log.exception("a connection could not be opened")
            self.shutdown_request(request)


def refuse_all(received: ReceivedObject) -> None:
    """A `Take` of who listens for reports only."""
    raise RefusedObject(OUT_OF_RESOURCES, "nothing is received here now")


# --- objects into a folder

_ASIDE = ".incoming-"


class FolderKeeper:
    """A `Take` that keeps objects in a folder, named by their UIDs; `tell` hears of each: its file, who sent it, whether it is new."""

    def __init__(self, folder: Path, tell: Callable[[Path, ReceivedObject, bool], None]) -> None:
        self._folder = folder
        self._tell = tell
        for left in folder.glob(_ASIDE + "*"):  # of a process that was killed
            left.unlink()

    def __call__(self, received: ReceivedObject) -> None:
        """Write the object beside, force it onto the disk, give it its name; one that is there stays as it is."""
        place = self._folder / f"{received.header.sop_instance}.dcm"
        is_new = not place.exists()
        if is_new:
            handle, aside = tempfile.mkstemp(prefix=_ASIDE, dir=self._folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(received.data)
                    file.flush()
                    os.fsync(file.fileno())
                with suppress(FileExistsError):  # another association was faster
                    os.link(aside, place)
            finally:
                Path(aside).unlink()
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._tell(place, received, is_new)
