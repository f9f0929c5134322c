"""Files out by C-STORE, against a partner of pynetdicom on loopback that answers as it is told."""

import socket
from contextlib import contextmanager
from threading import Thread

import pytest

pytest.importorskip("pynetdicom", reason="the extra dicom is not installed")

import dicom_files
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer
from test_cli_screen import run as run_command

from fundoscope.errors import UsageError
from fundoscope.languages import speaking, translate_kept
from fundoscope.server.dicom import troubles
from fundoscope.server.dicom.commitment import PUSH_MODEL, HeardReports, read_report
from fundoscope.server.dicom.peers import PeerError, send_echo
from fundoscope.server.dicom.sender import describe_status, send_by_dimse
from fundoscope.server.dicom.settings import DimsePeer

OP8, JPEG = dicom_files.CLASSES["op8"], "1.2.840.10008.1.2.4.50"


def run(*args):
    done = run_command(*args)
    return done.returncode, done.stdout, done.stderr


@contextmanager
def partner(
    store=lambda event: 0, commit=None, title="PACS", classes=(OP8,), syntaxes=(dicom_files.NATIVE,), required=""
):
    """A PACS that answers C-STORE with `store(event)`, and commitment with `commit(event, uids)`; yields its address."""
    entity = AE(title)
    entity.require_called_aet = True
    entity.require_calling_aet = [required] if required else []
    entity.add_supported_context("1.2.840.10008.1.1")
    for each in classes:
        entity.add_supported_context(each, list(syntaxes))
    handlers = [(evt.EVT_C_STORE, store)]
    if commit is not None:
        entity.add_supported_context(PUSH_MODEL)
        handlers.append((evt.EVT_N_ACTION, commit))
    server = entity.make_server(("127.0.0.1", 0), evt_handlers=handlers, server_class=ThreadedAssociationServer)
    entity._servers.append(server)
    Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield DimsePeer(title=title, host="127.0.0.1", port=server.server_address[1], seconds=5, commitment_seconds=3)
    finally:
        server.shutdown()


@pytest.fixture
def files(tmp_path):
    """make(n): files of n photographs, each with a UID of its own."""

    def make(count, **more):
        paths = []
        for number in range(count):
            path = tmp_path / f"{number}.dcm"
            found = dicom_files.dataset(rows=8, columns=8, SOPInstanceUID=f"2.25.{100 + number}", **more)
            found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
            path.write_bytes(dicom_files.encode(found, dicom_files.photograph(8, 8)))
            paths.append(path)
        return paths

    return make


def test_all_go_by_one_association_and_every_status_is_told(files):
    answers = [0x0000, 0xB000, 0xA700, 0xC123, 0x0111]
    seen = []

    def store(event):
        seen.append((event.assoc, event.request.AffectedSOPInstanceUID))
        status = Dataset()
        status.Status = answers[len(seen) - 1]
        status.ErrorComment = "full" if status.Status == 0xA700 else None
        return status

    with partner(store) as peer:
        done = send_by_dimse(peer, files(5))
    assert len({association for association, _ in seen}) == 1
    assert [uid for _, uid in seen] == [one.sop_instance for one in done] == [f"2.25.{100 + n}" for n in range(5)]
    assert [one.result for one in done] == ["stored", "stored", "not sent", "refused", "stored"]
    assert [one.warning for one in done] == [False, True, False, False, False]
    assert [one.status for one in done] == answers
    assert "out of resources" in done[2].said and "(full)" in done[2].said and "0xC123" in done[3].said
    assert {one.commitment for one in done} == {""}


def test_what_is_not_taken_does_not_keep_the_rest_from_going(files, tmp_path):
    paths = files(2)
    (broken := tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"x" * 40)
    packed = tmp_path / "packed.dcm"
    pixels = dicom_files.photograph(16, 16)
    header = dicom_files.dataset(syntax=JPEG, rows=16, columns=16, photometric="YBR_FULL_422")
    packed.write_bytes(dicom_files.encode(header, frames=[dicom_files.jpeg(pixels)]))
    with partner() as peer:
        done = send_by_dimse(peer, [broken, paths[0], packed, tmp_path / "gone.dcm", paths[1]])
    assert [one.result for one in done] == ["refused", "stored", "refused", "refused", "stored"]
    assert "no DICOM object" in done[0].said and "transfer syntax" in done[2].said and "gone.dcm" in done[3].said


def test_a_connection_that_breaks_in_the_middle_leaves_the_rest_unsent(files):
    seen = []

    def store(event):
        seen.append(event)
        if len(seen) == 3:
            event.assoc.abort()
        return 0

    with partner(store) as peer:
        done = send_by_dimse(peer, files(5))
    assert [one.result for one in done] == ["stored", "stored", "not sent", "not sent", "not sent"]
    assert all("lost" in one.said for one in done[2:])


def test_commitment_is_asked_for_and_its_report_heard_on_the_same_association_or_another(files):
    def report(event, missing):
        told = Dataset()
        told.TransactionUID = event.action_information.TransactionUID
        items = list(event.action_information.ReferencedSOPSequence)
        told.ReferencedSOPSequence = [item for item in items if item.ReferencedSOPInstanceUID not in missing]
        failed = [item for item in items if item.ReferencedSOPInstanceUID in missing]
        for item in failed:
            item.FailureReason = 0x0112
        told.FailedSOPSequence = failed
        return told

    def commit(event):
        told = report(event, {"2.25.101"})
        arguments = (told, 2, PUSH_MODEL, "1.2.840.10008.1.20.1.1")
        Thread(target=lambda: event.assoc.send_n_event_report(*arguments)).start()
        return 0, None

    with partner(commit=commit) as peer:
        done = send_by_dimse(peer.model_copy(update={"commitment": True}), files(3))
    assert [one.commitment for one in done] == ["committed", "failed", "committed"]
    assert "does not have it" in done[1].said and done[1].result == "stored"

    reports = HeardReports()

    def elsewhere(event):
        told = read_report(report(event, set()))
        Thread(target=reports.take, args=[told]).start()
        return 0, None

    with partner(commit=elsewhere) as peer:
        done = send_by_dimse(peer.model_copy(update={"commitment": True}), files(2), reports)
    assert [one.commitment for one in done] == ["committed", "committed"]
    assert not reports.take(read_report(Dataset()))

    with partner(commit=lambda event: (0, None)) as peer:
        wanted = peer.model_copy(update={"commitment": True, "commitment_seconds": 0.1})
        done = send_by_dimse(wanted, files(1))
    assert done[0].commitment == "asked" and done[0].transaction.startswith("2.25.")
    with partner() as peer:
        done = send_by_dimse(peer.model_copy(update={"commitment": True}), files(1))
    assert (done[0].result, done[0].commitment) == ("stored", "failed") and "does not offer" in done[0].said


def test_why_there_is_no_association(files):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = DimsePeer(title="PACS", host="127.0.0.1", port=unused.getsockname()[1], seconds=5)
    done = send_by_dimse(nobody, files(2))
    assert [one.result for one in done] == ["not sent"] * 2 and "nothing answers" in done[0].said
    with partner() as peer:
        assert "PYNETDICOM" in send_echo(peer)
        with pytest.raises(PeerError, match="not called OTHER"):
            send_echo(peer.model_copy(update={"title": "OTHER"}))
        assert "takes nothing" in send_by_dimse(peer, files(1, kind="wide"))[0].said
    with partner(required="CAMERA") as peer, pytest.raises(PeerError, match="does not know our title FUNDOSCOPE"):
        send_echo(peer)


def test_addresses_and_statuses_in_words():
    peer = DimsePeer.parse("PACS 1@[::1]:104", calling="ME")
    assert (peer.title, peer.host, peer.port, str(peer)) == ("PACS 1", "::1", 104, "PACS 1@[::1]:104")
    for wrong in ("pacs:104", "A@b", "A@b:0", "A@b:99999", "@b:1", "ÄÖ@b:1", "SEVENTEEN-LETTERS@b:1", "A@b c:1"):
        with pytest.raises(UsageError, match="TITLE@HOST:PORT"):
            DimsePeer.parse(wrong)
    assert (
        describe_status(0xB123) == "stored, with a warning (0xB123)"
        and describe_status(0x0999) == "it was refused (0x0999)"
    )
    assert "not supported" in describe_status(0x0122)
    with speaking("zh"):
        told = translate_kept(f"{peer}: {troubles.REJECTED.format(why=troubles.REJECTIONS[1, 3].format(calling='ME'))}")
        assert told == "PACS 1@[::1]:104: 关联被拒绝：对方不认识我方标题 ME：请在对方系统中登记。"
        assert translate_kept(f"SR: {describe_status(0xA700)}") == "SR: 暂未接收：资源不足 (0xA700)"
        assert translate_kept(f"SR: {troubles.SILENT}") == "SR: 未及时收到应答，或连接已中断"


def test_at_the_desk(files, tmp_path):
    paths = files(2)
    (tmp_path / "notes.txt").write_text("no photograph")
    with partner(title="DESK") as peer:
        code, out, _ = run("dicom", "echo", peer)
        assert code == 0 and out.startswith(f"{peer} answers: PYNETDICOM")
        code, out, err = run("dicom", "send", tmp_path, "--to", peer)
        assert (code, out) == (0, "") and "stored: 2 of 2" in err
        code, out, err = run("dicom", "send", *paths, "--to", peer, "--commit")
        assert code == 1 and out.count("does not offer storage commitment") == 2 and "committed: 0 of 2" in err
    code, _, err = run("dicom", "echo", peer)
    assert code == 1 and "nothing answers there" in err
    assert run("dicom", "echo", "DESK")[0] == 2 and run("dicom", "send", tmp_path / "none", "--to", peer)[0] == 2
    assert run("dicom", "send", paths[0], "--to", peer, "--certificate", paths[0])[0] == 2
