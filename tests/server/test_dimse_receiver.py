"""Photographs in by C-STORE over real sockets on loopback: who may send, how much, what is kept, what is refused and why."""

import io
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("pynetdicom", reason="the extra dicom is not installed")

import dicom_files
from pydicom import dcmread
from pynetdicom import build_context
from test_cli_screen import run

from fundoscope.errors import UsageError
from fundoscope.imaging import read
from fundoscope.server.dicom.commitment import PUSH_MODEL, HeardReports, ask_for
from fundoscope.server.dicom.peers import PeerError, associate, send_echo
from fundoscope.server.dicom.receiver import TRANSFER_SYNTAXES, FolderKeeper, ReceivedObject, Receiver, RefusedObject
from fundoscope.server.dicom.sender import send_by_dimse
from fundoscope.server.dicom.settings import DimsePeer, ReceiverSettings, TlsFiles, choose_receiver

DCMTK = shutil.which("storescu", path="/usr/bin:/usr/local/bin")  # pynetdicom installs a program of the same name
JPEG, LOSSLESS_2000, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"


@pytest.fixture
def listening(tmp_path):
    """listening(**settings) -> (peer, folder, told): a receiver into a folder, until the test ends."""
    opened = []

    def listen(take=None, reports=None, **values):
        (folder := tmp_path / "in").mkdir(exist_ok=True)
        told = []
        settings = ReceiverSettings(port=0, free_bytes=0, **values)
        keeper = take or FolderKeeper(folder, lambda *each: told.append(each))
        receiver = Receiver(settings, keeper, folder, reports).__enter__()
        opened.append(receiver)
        peer = DimsePeer(title=settings.title, host="127.0.0.1", port=receiver.port, seconds=5, tls=values.get("tls"))
        return peer, folder, told

    yield listen
    for each in opened:
        each.__exit__()


@pytest.fixture
def make(tmp_path):
    """make(number, ...): a file of one photograph, 32 pixels wide."""
    folder = tmp_path / "out"
    folder.mkdir()

    def make(number, syntax=dicom_files.NATIVE, pixels=None, frames=None, **more):
        wanted = {"rows": 32, "columns": 32, "SOPInstanceUID": f"2.25.{number}"} | more
        found = dicom_files.dataset(syntax=syntax, **wanted)
        found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
        pixels = dicom_files.photograph(32, 32) if pixels is None and frames is None else pixels
        path = folder / f"{number}.dcm"
        path.write_bytes(dicom_files.encode(found, pixels, frames))
        return path

    return make


def test_whole_files_come_to_lie_there_in_the_syntax_in_which_they_came(listening, make):
    peer, folder, told = listening()
    rgb = dicom_files.photograph(32, 32)
    paths = [
        make(1, kind="op8"), make(2, kind="wide", PatientName="王^小东", ViewCodeSequence=None), make(3, kind="photo", syntax="1.2.840.10008.1.2"),
        make(4, kind="capture", syntax=JPEG, frames=[dicom_files.jpeg(rgb)], photometric="YBR_FULL_422"),
        make(5, syntax=LOSSLESS_2000, frames=[dicom_files.jpeg_2000(rgb)], photometric="YBR_RCT"),
        make(6, syntax=RLE, frames=[dicom_files.rle(rgb)]), make(7, syntax="1.2.840.10008.1.2.1.99"),
    ]  # fmt: skip
    paths[0].write_bytes(b"MZ" + b"\x90" * 126 + paths[0].read_bytes()[128:])  # a preamble that is a program
    done = send_by_dimse(peer, paths)
    assert [one.result for one in done] == ["stored"] * 7 and [one.said for one in done] == ["it was stored"] * 7
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"2.25.{n}.dcm" for n in range(1, 8))
    assert all(new for _, _, new in told) and {(each.caller, each.address) for _, each, _ in told} == {
        ("FUNDOSCOPE", "127.0.0.1")
    }
    for path, one in zip(paths, done, strict=True):
        kept = folder / f"{one.sop_instance}.dcm"
        assert kept.read_bytes()[:132] == b"\0" * 128 + b"DICM"
        sent, came = dcmread(path), dcmread(kept)
        syntax = sent.file_meta.TransferSyntaxUID
        plain = syntax == "1.2.840.10008.1.2"  # implicit: the sides agree on explicit
        assert came.file_meta.TransferSyntaxUID == (dicom_files.NATIVE if plain else syntax)
        assert came.to_json_dict() == sent.to_json_dict()
        assert (read(kept).pixels == read(path).pixels).all()
    assert told[1][1].header.patient_name == "王^小东"


def test_what_came_twice_is_there_once_and_the_first_stays(listening, make):
    peer, folder, told = listening()
    first = make(1)
    assert send_by_dimse(peer, [first, first])[1].result == "stored"
    whole = (folder / "2.25.1.dcm").read_bytes()
    assert send_by_dimse(peer, [make(1, PatientName="Other")])[0].result == "stored"
    assert [path.name for path in folder.iterdir()] == ["2.25.1.dcm"]
    assert (folder / "2.25.1.dcm").read_bytes() == whole
    assert [new for _, _, new in told] == [True, False, False]


def test_what_is_left_of_a_killed_process_is_swept_away(tmp_path):
    (tmp_path / ".incoming-abc").write_bytes(b"half")
    (tmp_path / "2.25.9.dcm").write_bytes(b"whole")
    FolderKeeper(tmp_path, lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == ["2.25.9.dcm"]


def test_only_the_addresses_and_titles_on_the_list_may_send(listening, make):
    peer, folder, _ = listening(allow=("10.1.0.0/16",))
    with socket.create_connection((peer.host, peer.port)) as caller:
        caller.settimeout(3)
        assert caller.recv(1) == b""  # closed before anything was read
    with pytest.raises(PeerError):
        send_echo(peer)
    assert send_by_dimse(peer, [make(1)])[0].result == "not sent" and not list(folder.iterdir())
    peer, _, _ = listening(callers=("CAMERA",), title="ROOM")
    with pytest.raises(PeerError, match="does not know our title"):
        send_echo(peer)
    with pytest.raises(PeerError, match="not called"):
        send_echo(peer.model_copy(update={"calling": "CAMERA", "title": "ROOM2"}))
    send_echo(peer.model_copy(update={"calling": "CAMERA"}))
    with pytest.raises(ValueError, match="no address"):
        ReceiverSettings(allow=("ward",))
    with pytest.raises(UsageError, match="--caller: .*no AE title"):
        choose_receiver({"callers": ["a\\b"]})


def test_quotas_are_answered_with_out_of_resources_and_the_rest_goes_on(listening, make, monkeypatch):
    big = dicom_files.photograph(200, 200)
    peer, folder, _ = listening(object_bytes=50_000, association_objects=3)
    done = send_by_dimse(peer, [make(1, pixels=big, rows=200, columns=200), make(2), make(3), make(4)])
    assert [(one.result, one.status) for one in done] == [
        ("not sent", 0xA700),
        ("stored", 0),
        ("stored", 0),
        ("not sent", 0xA700),
    ]
    assert "larger than" in done[0].said and "more than 3 objects" in done[3].said
    assert send_by_dimse(peer, [make(4)])[0].result == "stored"
    huge = dicom_files.photograph(800, 800)
    peer, folder, _ = listening(object_bytes=50_000)
    done = send_by_dimse(peer, [make(5), make(6, pixels=huge, rows=800, columns=800)])
    assert [one.result for one in done] == ["stored", "not sent"] and not (folder / "2.25.6.dcm").exists()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=-1))
    assert "disk is nearly full" in send_by_dimse(peer, [make(7)])[0].said


def test_what_is_no_photograph_or_not_whole_is_refused_with_the_reason(listening, make):
    peer, folder, _ = listening()
    wrong = make(1)
    with associate(peer, [build_context(dicom_files.CLASSES["op8"])]) as association:
        assert association.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # else 40 ms an object
        found = dcmread(wrong)
        for uid in ("../../etc/passwd", "1", "2.25.x"):
            found.SOPInstanceUID = uid
            assert association.send_c_store(found).Status == 0xA900, uid
        found = dcmread(wrong)
        found.Manufacturer = "Fundoscope"
        answer = association.send_c_store(found)
        assert answer.Status == 0xC000 and "answer of Fundoscope" in answer.ErrorComment
    assert (
        send_by_dimse(peer, [make(2, kind="1.2.840.10008.5.1.4.1.1.88.34")])[0].result == "not sent"
    )  # a report: class not offered
    assert not list(folder.iterdir())


def test_an_object_that_is_announced_under_another_uid_does_not_fit(listening, make):
    from pynetdicom.dimse_primitives import C_STORE

    peer, folder, _ = listening()
    with associate(peer, [build_context(dicom_files.CLASSES["op8"])]) as association:
        association._reactor_checkpoint.clear()  # so that the answer is ours
        while not association._is_paused:
            time.sleep(0.01)
        for content, status in ((make(1).read_bytes()[400:], 0xA900), (b"\xff" * 300, 0xA900)):
            asked = C_STORE()
            asked.MessageID, asked.Priority = 1, 2
            asked.AffectedSOPClassUID, asked.AffectedSOPInstanceUID = dicom_files.CLASSES["op8"], "2.25.99"
            asked.DataSet = io.BytesIO(content)
            association.dimse.send_msg(asked, 1)
            _, answer = association.dimse.get_msg(block=True)
            assert answer.Status in (status, 0xC000)
    assert not list(folder.iterdir())


def test_errors_of_the_taker_reach_the_sender_and_nothing_is_acknowledged(listening, make):
    from fundoscope.server.errors import BusyError, ConflictError

    errors = iter(
        [
            RefusedObject(0xA900, "no"),
            BusyError("full"),
            ConflictError("signed"),
            OSError(28, "No space left"),
            KeyError("x"),
        ]
    )

    def take(received: ReceivedObject):
        raise next(errors)

    peer, _, _ = listening(take)
    done = send_by_dimse(peer, [make(n) for n in range(5)])
    assert [one.status for one in done] == [0xA900, 0xA700, 0xC000, 0xA700, 0x0110]
    assert "(full)" in done[1].said and "(No space left)" in done[3].said


def test_a_silent_caller_and_one_that_lies_about_lengths_hold_up_nobody(listening, make, certificates):
    peer, _, _ = listening(tls=certificates["server"])
    silent = [socket.create_connection((peer.host, peer.port)) for _ in range(5)]
    secured = peer.model_copy(update={"tls": certificates["client"]})
    assert send_by_dimse(secured, [make(1)])[0].result == "stored"
    plain, _, _ = listening()
    with socket.create_connection((plain.host, plain.port)) as liar:
        liar.sendall(b"\x01\x00\xff\xff\xff\xff" + b"x" * 100)
        liar.settimeout(5)
        assert liar.recv(100)[:1] in (b"", b"\x07")  # cut off, or an abort
    send_echo(plain)
    for each in silent:
        each.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """TLS files: an authority, a server and a client that it has signed, and a stranger."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("tls")

    def sign(name, issuer=None):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        signer, signing = (subject, key) if issuer is None else issuer
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(signer).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
            .add_extension(x509.BasicConstraints(issuer is None, None), True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
            .sign(signing, hashes.SHA256())
        )  # fmt: skip
        (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.key").write_bytes(secret)
        return subject, key

    authority = sign("authority")
    for name in ("server", "client"):
        sign(name, authority)
    sign("stranger")
    both = {
        name: TlsFiles(
            authority=folder / "authority.pem", certificate=folder / f"{name}.pem", key=folder / f"{name}.key"
        )
        for name in ("server", "client")
    }
    alone = TlsFiles(authority=folder / "authority.pem")
    return both | {
        "nobody": alone,
        "stranger": both["client"].model_copy(
            update={"certificate": folder / "stranger.pem", "key": folder / "stranger.key"}
        ),
    }


def test_by_tls_both_sides_show_who_they_are(listening, make, certificates):
    peer, folder, _ = listening(tls=certificates["server"])
    assert send_by_dimse(peer.model_copy(update={"tls": certificates["client"]}), [make(1)])[0].result == "stored"
    for wrong in (None, certificates["nobody"], certificates["stranger"], TlsFiles()):
        assert send_by_dimse(peer.model_copy(update={"tls": wrong, "seconds": 2}), [make(2)])[0].result == "not sent"
    assert [path.name for path in folder.iterdir()] == ["2.25.1.dcm"]
    with pytest.raises(UsageError, match="cannot be used for TLS"):
        TlsFiles(certificate=certificates["server"].key, key=certificates["server"].key).server_context()
    with pytest.raises(UsageError, match="needs a certificate"):
        TlsFiles(authority=certificates["server"].authority).server_context()
    assert TlsFiles().client_context().verify_mode == ssl.CERT_REQUIRED


def test_a_report_on_commitment_is_heard_by_the_receiver(listening):
    reports = HeardReports()
    peer, _, _ = listening(reports=reports)
    reports.expect("2.25.7", {}, "")
    context = build_context(PUSH_MODEL)
    with associate(peer, [context]) as association:
        told = ask_for("2.25.7", {"2.25.1": dicom_files.CLASSES["op8"]})
        assert association.send_n_event_report(told, 1, PUSH_MODEL, "1.2.840.10008.1.20.1.1")[0].Status == 0
        told.TransactionUID = "2.25.8"  # nobody asked for it
        assert association.send_n_event_report(told, 1, PUSH_MODEL, "1.2.840.10008.1.20.1.1")[0].Status == 0x0110
    assert reports.wait("2.25.7", 1).committed == {"2.25.1"}


def test_syntaxes_are_those_that_are_read(make):
    page = (Path(__file__).parents[2] / "docs" / "reference" / "dicom.md").read_text()
    table = page[page.index("| transfer syntax") : page.index("Colours: RGB")]
    documented = set()
    for line in re.findall(r"\| (1\.2\.840\S*(?:, \.\S+)*) \|", table):
        base, *more = line.split(", ")
        documented.add(base)
        documented |= {(base if base.endswith(".1.2") else base.rpartition(".")[0]) + each for each in more}
    assert documented == set(TRANSFER_SYNTAXES)


@pytest.mark.services
@pytest.mark.skipif(DCMTK is None, reason="dcmtk is not installed")
def test_dcmtk_is_heard_and_hears_us(listening, make, tmp_path):
    peer, folder, told = listening()
    rgb = dicom_files.photograph(32, 32)
    make(1), make(2, kind="capture"), make(3, syntax=JPEG, frames=[dicom_files.jpeg(rgb)], photometric="YBR_FULL_422")
    where = ["-aec", "FUNDOSCOPE", "-aet", "DCMTK", peer.host, str(peer.port)]
    assert subprocess.run([Path(DCMTK).with_name("echoscu"), *where], timeout=30).returncode == 0
    subprocess.run([DCMTK, "-xy", *where, "--scan-directories", tmp_path / "out"], check=True, timeout=60)
    assert sorted(path.name for path in folder.iterdir()) == ["2.25.1.dcm", "2.25.2.dcm", "2.25.3.dcm"]
    assert {received.caller for _, received, _ in told} == {"DCMTK"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (theirs := tmp_path / "theirs").mkdir()
    with subprocess.Popen(
        [Path(DCMTK).with_name("storescp"), "-aet", "STORE", "+xa", "-od", theirs, str(port)]
    ) as storescp:
        store = DimsePeer(title="STORE", host="127.0.0.1", port=port, seconds=10)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            done = send_by_dimse(store, sorted((tmp_path / "out").iterdir()))
            if done[0].result == "stored":
                break
        storescp.terminate()
    assert [one.result for one in done] == ["stored"] * 3 and len(list(theirs.iterdir())) == 3


@pytest.mark.services
def test_killed_in_the_middle_nothing_acknowledged_is_lost_or_there_twice(make, tmp_path):
    paths = [make(n) for n in range(40)]
    folder = tmp_path / "ward"
    command = [sys.executable, "-m", "fundoscope", "dicom", "listen", "--into", folder, "--port", "0"]
    acknowledged = set()
    waiting = list(paths)
    for kill_after in (12, 0):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
            port = int(re.search(r":(\d+)\.", listener.stdout.readline())[1])
            drain = threading.Thread(target=listener.stdout.read, daemon=True)
            drain.start()
            peer = DimsePeer(title="FUNDOSCOPE", host="127.0.0.1", port=port, seconds=5)

            def kill(count, after=kill_after, process=listener):
                if count == after:
                    process.send_signal(signal.SIGKILL)

            done = send_by_dimse(peer, waiting, on_sent=kill)
            listener.kill()
        acknowledged |= {one.path for one in done if one.result == "stored"}
        assert all(one.result in ("stored", "not sent") for one in done)
        assert {path.stem for path in acknowledged} <= {path.stem.split(".")[-1] for path in folder.glob("*.dcm")}
        waiting = [one.path for one in done if one.result != "stored"]
        assert len(waiting) == (28 if kill_after else 0)
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"2.25.{n}.dcm" for n in range(40))
    assert all(dcmread(folder / f"2.25.{n}.dcm").PixelData for n in range(40))


def test_listening_at_the_desk(make, tmp_path):
    path = make(1, ImageLaterality="R", Laterality="L")
    result = {}
    thread = threading.Thread(
        target=lambda: result.setdefault(
            "done", run("dicom", "listen", "--into", tmp_path / "desk", "--port", port, "--objects", 1)
        )
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    thread.start()
    peer = DimsePeer(title="FUNDOSCOPE", host="127.0.0.1", port=port, seconds=5)
    for _ in range(100):
        if send_by_dimse(peer, [path])[0].result == "stored":
            break
    thread.join(10)
    out = result["done"].stdout
    assert result["done"].returncode == 0 and f"listens at 127.0.0.1:{port}" in out
    assert "2.25.1.dcm: from FUNDOSCOPE at 127.0.0.1; right; Its header contradicts itself" in out
    path.write_text("")
    for wrong in (["--into", path], ["--into", tmp_path / "x", "--allow", "ward"], ["--into", tmp_path / "x", "--title", "seventeen letters"],
                  ["--into", tmp_path / "x", "--certificate", path], ["--into", tmp_path / "x", "--host", "192.0.2.1"]):  # fmt: skip
        assert run("dicom", "listen", *wrong).returncode == 2, wrong
