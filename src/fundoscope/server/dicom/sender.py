"""Files to a PACS by C-STORE: one association for all, the status of each looked at, and storage commitment where it is wanted."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

from fundoscope.errors import FundoscopeError
from fundoscope.server.dicom.commitment import (
    FAILURES,
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST_COMMITMENT,
    CommitmentReports,
    HeardReports,
    ask_for,
    read_report,
)
from fundoscope.server.dicom.peers import DimsePeer, PeerError, associate

_MOST_CONTEXTS = 120  # of the 128 that one association can agree on (PS3.8, 9.3.2.2)
_PLAIN = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))  # either can be written as the other
_PROCESSING, _DUPLICATE = 0x0110, 0x0111
#: What a status means, in words (PS3.4, table B.2-1; PS3.7, annex C); A7xx, A9xx and Cxxx by their first digits.
_MEANINGS = {
    0x0000: "stored", _DUPLICATE: "it is there already", 0xB000: "stored, but values were changed there",
    0xB006: "stored, but elements were left out there", 0xB007: "stored, though it does not fit its class",
    _PROCESSING: "not taken: it failed there; its log says more", 0x0117: "refused: the instance's UID is not valid", 0x0122: "refused: the class is not supported",
    0x0124: "refused: we are not allowed to store there", 0x0210: "refused: the message came twice",
    0x0211: "refused: storing is not supported", 0x0212: "refused: a value of the message is wrong",
    0xA7: "not taken now: out of resources", 0xA9: "refused: the object does not fit its class",
    0xC: "refused: the object was not understood",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class InstanceOutcome:
    """What became of one file.

    `result`: `stored`; `refused` (sending it again as it is will not help); `not sent` (it may be sent again: no connection, out of
    resources, or a failure there). `said` is why, in words; `warning` whether it was stored with a warning. `status` is that of the C-STORE, None
    where there was no answer. `commitment`: blank where it was not asked for, `asked` while the report of `transaction` has not come,
    `committed`, or `failed`.
    """

    path: Path
    sop_instance: str
    result: Literal["stored", "refused", "not sent"]
    said: str
    status: int | None = None
    warning: bool = False
    commitment: Literal["", "asked", "committed", "failed"] = ""
    transaction: str = ""


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """What of a file must be known before an association is asked for."""

    path: Path
    sop_class: str
    sop_instance: str
    syntax: str


def send_by_dimse(
    destination: DimsePeer,
    paths: Sequence[Path],
    reports: CommitmentReports | None = None,
    on_sent: Callable[[int], None] = lambda _: None,
) -> list[InstanceOutcome]:
    """Send DICOM files; an outcome for each, in their order, whatever happens to the connection.

    `reports` is where a receiver of ours hands reports on commitment in; without it only a report on the same association is heard.
    `on_sent` is told how many files are done.
    """
    done: dict[int, InstanceOutcome] = {}
    outgoing: dict[int, _Outgoing] = {}
    for number, path in enumerate(paths):
        try:
            outgoing[number] = _look_at(path)
        except (OSError, ValueError, FundoscopeError) as error:
            done[number] = InstanceOutcome(path, "", "refused", f"{error}".rstrip(".") or type(error).__name__)
    heard = HeardReports() if reports is None else reports

    def hear(event: Event) -> tuple[int, None]:
        return (0x0000 if heard.take(read_report(event.event_information)) else 0x0110), None

    while waiting := [number for number in outgoing if number not in done]:
        batch, contexts = _agree_on(outgoing, waiting, destination.commitment)
        try:
            with associate(destination, contexts, [(evt.EVT_N_EVENT_REPORT, hear)]) as association:
                for number in batch:
                    done[number] = _store(association, outgoing[number])
                    on_sent(len(done))
                if destination.commitment:
                    _ask_to_commit(association, destination, heard, outgoing, done, batch)
        except PeerError as error:
            lost = str(error)
            done |= {
                number: InstanceOutcome(outgoing[number].path, outgoing[number].sop_instance, "not sent", lost)
                for number in waiting
                if number not in done
            }
    return [done[number] for number in range(len(paths))]


def _look_at(path: Path) -> _Outgoing:
    """Class, instance and transfer syntax of a file; `ValueError` for what is no whole DICOM object."""
    try:
        found = dcmread(path, stop_before_pixels=True)
        values = (found.SOPClassUID, found.SOPInstanceUID, found.file_meta.TransferSyntaxUID)
    except OSError:
        raise
    except Exception as error:  # pydicom raises whatever its parts do
        raise ValueError("it is no DICOM object that can be sent") from error
    return _Outgoing(path, *map(str, values))


def _agree_on(
    outgoing: dict[int, _Outgoing], waiting: Sequence[int], commitment: bool
) -> tuple[list[int], list[PresentationContext]]:
    """The files that go by the next association, and what is offered for them: each class in the syntaxes of its files."""
    offered: dict[tuple[str, tuple[str, ...]], None] = {}
    batch = []
    for number in waiting:
        one = outgoing[number]
        wanted = [(one.sop_class, _PLAIN if one.syntax in _PLAIN else (one.syntax,))]
        if len(offered.keys() | wanted) > _MOST_CONTEXTS:
            break
        offered |= dict.fromkeys(wanted)
        batch.append(number)
    contexts = [build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in offered]
    return batch, [*contexts, *([build_context(PUSH_MODEL)] if commitment else [])]


def _store(association: Association, one: _Outgoing) -> InstanceOutcome:
    """Send one file; the association may have been lost before."""
    found = InstanceOutcome(one.path, one.sop_instance, "not sent", "the connection was lost")
    if not association.is_established:
        return found
    try:
        sent: FileDataset = dcmread(one.path)
        status = association.send_c_store(sent)
    except OSError as error:
        return replace(found, said=f"the file cannot be read ({error.strerror or error})")
    except ValueError:  # no presentation context was agreed on for it
        return replace(found, result="refused", said="refused: it does not take this class in this transfer syntax")
    except (RuntimeError, AttributeError) as error:
        return replace(found, said=f"the connection was lost ({error})")
    if "Status" not in status:
        return replace(found, said="no answer came in time, or the connection was lost")
    code = int(status.Status)
    told = describe_status(code)
    if comment := str(status.get("ErrorComment") or "").strip():
        told = f"{told} ({comment})"
    warned = code in (0x0001, 0x0107, 0x0116) or code >> 12 == 0xB
    if code in (0x0000, _DUPLICATE) or warned:
        return replace(found, result="stored", said=told, status=code, warning=warned)
    again = code >> 8 == 0xA7 or code == _PROCESSING  # of which the cause may pass
    return replace(found, result="not sent" if again else "refused", said=told, status=code)


def describe_status(status: int) -> str:
    """What the status of a C-STORE means, with its number where that is not success."""
    if status == 0:
        return _MEANINGS[0]
    known = [_MEANINGS[key] for key in (status, status >> 8, status >> 12) if key and key in _MEANINGS]
    told = [*known, "stored, with a warning" if status >> 12 == 0xB else "refused"][0]
    return f"{told} (0x{status:04X})"


def _ask_to_commit(
    association: Association, destination: DimsePeer, reports: CommitmentReports,
    outgoing: dict[int, _Outgoing], done: dict[int, InstanceOutcome], batch: Sequence[int],
) -> None:  # fmt: skip
    """Ask for commitment to what was stored, and write what the report says into `done`."""
    stored = [number for number in batch if done[number].result == "stored"]
    if not stored:
        return
    transaction = f"2.25.{uuid.uuid4().int}"
    instances = {outgoing[number].sop_instance: outgoing[number].sop_class for number in stored}
    reports.expect(transaction, instances, str(destination))
    try:
        status, _ = association.send_n_action(
            ask_for(transaction, instances), REQUEST_COMMITMENT, PUSH_MODEL, PUSH_MODEL_INSTANCE
        )
        code = status.get("Status")
        refusal = "" if code == 0 else "no answer came" if code is None else f"it answered 0x{code:04X}"
    except (ValueError, RuntimeError) as error:  # it did not agree to the class, or is gone
        refusal = "it does not offer storage commitment" if isinstance(error, ValueError) else str(error)
    if refusal:
        for number in stored:
            said = f"{done[number].said}; commitment could not be asked for: {refusal}"
            done[number] = replace(done[number], commitment="failed", said=said)
        return
    report = reports.wait(transaction, destination.commitment_seconds)
    for number in stored:
        one = replace(done[number], transaction=transaction, commitment="asked")
        if report is not None and one.sop_instance in report.committed:
            one = replace(one, commitment="committed")
        elif report is not None:
            reason = report.failed.get(one.sop_instance)
            told = "the report does not name it" if reason is None else FAILURES.get(reason, f"reason 0x{reason:04X}")
            one = replace(one, commitment="failed", said=f"{one.said}; not committed: {told}")
        done[number] = one
