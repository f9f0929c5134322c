"""A PACS by DICOMweb: what its answers mean, also where it says 200 and stores nothing, is slow, or sends no end."""

import io
import json
import ssl
import threading
import time
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import dicom_files as made
import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("dicomweb_client")

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from fundoscope.cli.main import app
from fundoscope.errors import UsageError
from fundoscope.server.dicom.web import (
    DicomwebConnection,
    DicomwebError,
    DicomwebServer,
    UnusableAnswerError,
    read_outcome,
)

FILE = made.encode(made.dataset(SOPInstanceUID="2.25.1"), made.photograph(24, 32))


class FakePacs:
    """Answers what it is told to: `routes` are functions of a path's query, by method and path; `asked` is what came."""

    def __init__(self, certificate=None):
        self.routes, self.asked = {}, []
        pacs = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                path, _, query = self.path.partition("?")
                length = self.headers.get("Content-Length")
                body = self.rfile.read(int(length)) if length else b""
                pacs.asked.append((self.command, path, query, self.headers, body))
                made_up = pacs.routes.get(f"{self.command} {path}")
                status, kind, content = made_up(query) if made_up else (404, "text/plain", b"")
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer  # noqa: N815 - names of http.server

            def log_message(self, *more):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.server.server_port}/dicom-web"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def say(self, method, path, content, status=200, kind="application/dicom+json"):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.routes[f"{method} /dicom-web{path}"] = lambda query: (status, kind, body)


@pytest.fixture
def pacs():
    one = FakePacs()
    yield one
    one.server.shutdown()
    one.server.server_close()


def connect(pacs, **more):
    return DicomwebConnection(DicomwebServer(url=pacs.url, seconds=2, **more))


def row(**values):
    found = pydicom.Dataset()
    for name, value in values.items():
        setattr(found, name, value)
    return json.loads(found.to_json())


def instances(*uids, sop_class=made.CLASSES["op8"]):
    return [row(SOPInstanceUID=uid, SOPClassUID=sop_class) for uid in uids]


def multipart(file):
    return (
        b"--x\r\nContent-Type: application/dicom\r\n\r\n" + file + b"\r\n--x--\r\n",
        'multipart/related; type="application/dicom"; boundary=x',
    )


def offer(pacs, *uids):
    """A study with these photographs."""
    pacs.say("GET", "/studies", [row(StudyInstanceUID="2.25.5", NumberOfStudyRelatedInstances=len(uids))])
    pacs.say("GET", "/studies/2.25.5/series", [row(SeriesInstanceUID="2.25.6")])
    pacs.say("GET", "/studies/2.25.5/series/2.25.6/instances", instances(*uids))
    for uid in uids:
        body, kind = multipart(made.encode(made.dataset(SOPInstanceUID=uid), made.photograph(24, 32)))
        pacs.say("GET", f"/studies/2.25.5/series/2.25.6/instances/{uid}", body, kind=kind)


def item(uid, reason=None):
    found = pydicom.Dataset()
    found.ReferencedSOPInstanceUID = uid
    if reason is not None:
        found.FailureReason = reason
    return found


@pytest.mark.parametrize(
    ("failed", "stored", "result", "said"),
    [
        ([], ["2.25.1"], "stored", ""),
        (None, ["2.25.1"], "stored", ""),
        ([("2.25.1", 0xA700)], [], "refused", "out of resources (0xA700)"),
        ([("2.25.1", 0xA901)], ["2.25.1"], "refused", "does not fit its class (0xA901)"),
        ([("2.25.1", 0xC122)], [], "refused", "did not understand the object (0xC122)"),
        ([("2.25.1", 0x0111)], [], "stored", "it has the object already"),
        ([("2.25.1", 0x0999)], [], "refused", "without a reason (0x0999)"),
        ([("2.25.9", 0xA700)], ["2.25.1"], "stored", ""),
        ([], [], "refused", "does not say that the object was stored"),
        (None, None, "refused", "does not say that the object was stored"),
        ([], ["2.25.9"], "refused", "does not say that the object was stored"),
    ],
)
def test_an_object_is_stored_only_where_the_answer_says_so(failed, stored, result, said):
    told = pydicom.Dataset()
    if failed is not None:
        told.FailedSOPSequence = [item(*one) for one in failed]
    if stored is not None:
        told.ReferencedSOPSequence = [item(one) for one in stored]
    outcome = read_outcome(told, "2.25.1")
    assert outcome.result == result and said in outcome.said


def test_a_refusal_with_its_reason_in_an_answer_409_is_read(pacs):
    told = pydicom.Dataset()
    told.FailedSOPSequence = [item("2.25.1", 0x0122)]
    pacs.say("POST", "/studies/2.25.1002", told.to_json().encode(), 409)
    outcome = connect(pacs).store("2.25.1002", FILE)
    assert (outcome.result, outcome.said) == ("refused", "it does not support the class of the object (0x0122)")
    pacs.say("POST", "/studies/2.25.1002", b"no", 400, "text/plain")
    assert "status 400" in connect(pacs).store("2.25.1002", FILE).said
    pacs.say("POST", "/studies/2.25.1002", b"no", 503, "text/plain")
    with pytest.raises(DicomwebError, match="status 503"):
        connect(pacs).store("2.25.1002", FILE)


def test_what_is_sent_is_the_file_byte_for_byte_with_user_and_password(pacs):
    told = pydicom.Dataset()
    told.ReferencedSOPSequence = [item("2.25.1")]
    pacs.say("POST", "/studies/2.25.1002", told.to_json().encode())
    assert connect(pacs, user="ada", password="secret").store("2.25.1002", FILE).result == "stored"
    *_, headers, body = pacs.asked[-1]
    assert FILE in body and headers["Authorization"].startswith("Basic ")


def test_photographs_are_searched_and_fetched(pacs):
    offer(pacs, "2.25.1", "2.25.2")
    pacs.routes["GET /dicom-web/studies/2.25.5/series/2.25.6/instances"] = lambda query: (
        200, "application/dicom+json", json.dumps(instances("2.25.1") + instances("2.25.3", sop_class="1.2.840.10008.5.1.4.1.1.88.34") + [row(SOPInstanceUID="2.25.2")]).encode(),
    )  # fmt: skip
    connection = connect(pacs)
    (study,) = connection.find_studies(date(2026, 3, 1), date(2026, 3, 2), "OP")
    assert (study.study, study.instances) == ("2.25.5", 2)
    query = next(query for _, path, query, *_ in pacs.asked if path == "/dicom-web/studies")
    assert "StudyDate=20260301-20260302" in query and "ModalitiesInStudy=OP" in query
    found = connection.find_photographs("2.25.5", "OP")
    assert [one.sop_instance for one in found] == ["2.25.1", "2.25.2"]  # no report; what tells no class may be one
    assert pydicom.dcmread(io.BytesIO(connection.fetch(found[0]))).SOPInstanceUID == "2.25.1"


def test_a_long_list_comes_page_by_page_and_an_endless_one_ends(pacs):
    def give(query):
        offset = int(dict(part.split("=") for part in query.split("&"))["offset"])
        rows = [row(StudyInstanceUID=f"2.25.{number}") for number in range(offset, min(offset + 100, 250))]
        return 200, "application/dicom+json", json.dumps(rows).encode()

    pacs.routes["GET /dicom-web/studies"] = give
    assert len(connect(pacs).find_studies(date(2026, 3, 1), date(2026, 3, 1), "OP")) == 250
    pacs.say("GET", "/studies", [row(StudyInstanceUID=f"2.25.{number}") for number in range(30)])
    assert len(connect(pacs).find_studies(date(2026, 3, 1), date(2026, 3, 1), "OP")) == 30


def test_what_is_too_large_too_slow_or_no_dicom_is_told(pacs):
    offer(pacs, "2.25.1")
    (one,) = connect(pacs).find_photographs("2.25.5", "OP")
    with pytest.raises(UnusableAnswerError, match="larger than"):
        DicomwebConnection(DicomwebServer(url=pacs.url, file_bytes=-(1 << 16) + 100)).fetch(one)
    body, kind = multipart(b"no dicom at all")
    pacs.say("GET", f"/studies/2.25.5/series/2.25.6/instances/{one.sop_instance}", body, kind=kind)
    with pytest.raises(UnusableAnswerError, match="cannot be read"):
        connect(pacs).fetch(one)
    pacs.routes["GET /dicom-web/studies"] = lambda query: (time.sleep(0.6), (200, "text/plain", b""))[1]
    with pytest.raises(DicomwebError, match="in time"):
        DicomwebConnection(DicomwebServer(url=pacs.url, seconds=0.2)).try_out()
    for status, told in (
        (401, "user or password"),
        (403, "may not do this"),
        (404, "nothing at this address"),
        (500, "status 500"),
    ):
        pacs.say("GET", "/studies", b"", status)
        with pytest.raises(DicomwebError, match=told):
            connect(pacs).try_out()


def test_a_certificate_is_believed_only_from_its_authority(tmp_path, monkeypatch):
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pacs")]),
    )
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(
        name, name, key.public_key(), 1, datetime(2026, 1, 1), datetime(2099, 1, 1)
    ).add_extension(here, False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256())
    pem = tmp_path / "both.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(made.public_bytes(Encoding.PEM) + private)
    pacs = FakePacs(pem)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))  # the surroundings decide nothing
    try:
        pacs.say("GET", "/studies", [])
        with pytest.raises(DicomwebError, match="certificate is not believed"):
            connect(pacs).try_out()
        assert connect(pacs, authority=pem).try_out() == 0
        with pytest.raises(DicomwebError, match="TLS"):
            connect(pacs, authority=tmp_path / "gone.pem").try_out()
    finally:
        pacs.server.shutdown()


@pytest.mark.parametrize("url", ["", "pacs", "ftp://pacs/x", "http://u:p@pacs/x", "http://pacs/x?y", "http://"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError, match="no address of DICOMweb"):
        DicomwebServer.choose(url, "", None)


def run(*arguments):
    return CliRunner().invoke(app, ["dicom", "fetch", *map(str, arguments)])


def test_the_command_fetches_what_is_new(pacs, tmp_path):
    offer(pacs, "2.25.1", "2.25.2", "../../evil")
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    call = (pacs.url, "--into", tmp_path / "in", "--user", "ada", "--password-file", secret)
    done = run(*call)
    assert done.exit_code == 0, done.output
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.dcm")) == [
        "in/2.25.5/2.25.1.dcm",
        "in/2.25.5/2.25.2.dcm",
    ]
    del pacs.routes["GET /dicom-web/studies/2.25.5/series/2.25.6/instances/2.25.1"]
    (tmp_path / "in" / "2.25.5" / "2.25.2.dcm").unlink()
    assert run(*call).exit_code == 0 and len(list(tmp_path.rglob("*.dcm"))) == 2
    (tmp_path / "in" / "2.25.5" / "2.25.1.dcm").unlink()
    done = run(*call)
    assert done.exit_code == 1 and "2.25.1: http" in done.output and "nothing at this address" in done.output
    for wrong, told in (
        (("pacs", "--into", tmp_path), "no address"), ((pacs.url, "--into", tmp_path, "--user", "ada"), "go together"),
        ((pacs.url, "--into", tmp_path, "--user", "ada", "--password-file", tmp_path / "gone"), "no such file"),
        ((pacs.url, "--into", tmp_path, "--certificate", secret), "go together"),
    ):  # fmt: skip
        done = run(*wrong)
        assert isinstance(done.exception, UsageError) and told in str(done.exception)
