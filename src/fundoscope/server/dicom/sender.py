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
from fundoscope.server.dicom import troubles
from fundoscope.server.dicom.commitment import (
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
        raise ValueError(troubles.NO_OBJECT) from error
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
    found = InstanceOutcome(one.path, one.sop_instance, "not sent", troubles.LOST)
    if not association.is_established:
        return found
    try:
        sent: FileDataset = dcmread(one.path)
        status = association.send_c_store(sent)
    except OSError as error:
        return replace(found, said=troubles.UNREADABLE.format(reason=error.strerror or error))
    except ValueError:  # no presentation context was agreed on for it
        return replace(found, result="refused", said=troubles.NOT_AGREED)
    except (RuntimeError, AttributeError) as error:
        return replace(found, said=f"{troubles.LOST} ({error})")
    if "Status" not in status:
        return replace(found, said=troubles.SILENT)
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
        return troubles.STORE_STATUSES[0]
    known = [
        found for key in (status, status >> 8, status >> 12) if key and (found := troubles.STORE_STATUSES.get(key))
    ]
    told = [*known, troubles.STORED_WITH_WARNING if status >> 12 == 0xB else troubles.REFUSED][0]
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
        answered = (
            troubles.NO_ANSWER_TO_QUESTION if code is None else troubles.ANSWERED_WITH.format(status=f"{code:04X}")
        )
        refusal = "" if code == 0 else answered
    except (ValueError, RuntimeError) as error:  # it did not agree to the class, or is gone
        refusal = troubles.NO_COMMITMENT if isinstance(error, ValueError) else str(error)
    if refusal:
        for number in stored:
            said = f"{done[number].said}; {troubles.NOT_ASKED}: {refusal}"
            done[number] = replace(done[number], commitment="failed", said=said)
        return
    report = reports.wait(transaction, destination.commitment_seconds)
    for number in stored:
        one = replace(done[number], transaction=transaction, commitment="asked")
        if report is not None and one.sop_instance in report.committed:
            one = replace(one, commitment="committed")
        elif report is not None:
            reason = report.failed.get(one.sop_instance)
            told = troubles.NOT_NAMED_IN_REPORT
            if reason is not None:
                known = troubles.COMMITMENT_FAILURES.get(reason, troubles.COMMITMENT_FAILURES[0])
                told = known.format(reason=f"{reason:04X}")
            one = replace(one, commitment="failed", said=f"{one.said}; {troubles.FAILED_TO_COMMIT}: {told}")
        done[number] = one
