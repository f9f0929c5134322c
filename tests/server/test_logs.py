"""Logs and figures: what they hold, what they never hold, and who may read them."""

import io
import json
import logging

import pytest
from starlette.testclient import TestClient

from fundoscope.server import logs
from fundoscope.server.models import Job
from fundoscope.server.services import sessions
from fundoscope.server.settings import ServerSettings

NAME = "Zhang Wei"


@pytest.fixture
def written():
    """What is logged, as a function that reads the lines."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    stream = io.StringIO()
    logs.write_logs(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers = before
    root.setLevel(level)
    logging.getLogger("fundoscope").setLevel(logging.NOTSET)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "token").write_text("figures\n")
    return ServerSettings(data=tmp_path / "room", metrics_token_file=tmp_path / "token")


def test_requests_are_logged_by_their_pattern(sign_in, make_patient, written):
    reader = sign_in("reader")
    patient = make_patient(name=NAME)
    reader.get(f"/v1/patients/{patient.id}?search=Zhang")
    reader.get("/v1/patients?search=Zhang%20Wei")
    reader.get(f"/nowhere/{NAME}")
    reader.get("/static/style.css")
    lines = [line for line in written() if line["what"] == "request"]
    assert [(line["route"], line["status"], line["user"]) for line in lines] == [
        ("/v1/patients/{patient_id}", 200, reader.id), ("/v1/patients", 200, reader.id), ("none", 404, reader.id),
    ]  # fmt: skip
    assert "Zhang" not in json.dumps(written()) and "Wei" not in json.dumps(written())
    assert len({line["request"] for line in lines}) == 3 and all(line["at"].endswith("Z") for line in lines)


def test_an_error_is_logged_without_its_message_and_found_by_its_code(sign_in, written, monkeypatch):
    reader = sign_in("reader")

    def fail(*_):
        try:
            raise KeyError(NAME)
        except KeyError as error:
            raise RuntimeError(f"no {NAME}") from error

    monkeypatch.setattr(sessions, "end_session", fail)
    answer = reader.post("/sign-out", headers={"Accept": "application/json"})
    (line,) = [line for line in written() if line["what"] == "unforeseen"]
    assert answer.status_code == 500 and line["request"] in answer.json()["detail"]
    assert (line["error"], line["cause"], line["level"]) == ("RuntimeError", "KeyError", "error")
    assert line["frames"][-1].endswith("fail") and any("routes/sign_in.py" in frame for frame in line["frames"])
    assert NAME not in json.dumps(written())


def test_other_logs_are_json_without_messages_of_errors_too(written):
    try:
        raise ValueError(NAME)
    except ValueError:
        logging.getLogger("fundoscope.worker").exception("job %s failed", 7)
    (line,) = written()
    assert (line["what"], line["error"], line["logger"]) == ("job 7 failed", "ValueError", "fundoscope.worker")
    assert NAME not in json.dumps(line)


def test_a_database_error_tells_no_value(room, written):
    try:
        with room.database.transaction() as session:
            session.add(Job(kind=NAME, key=None, payload={}))
    except Exception:
        logging.getLogger("x").exception("failed")
    assert NAME not in json.dumps(written())


def test_figures_count_requests_and_what_waits(sign_in, make_exam, room):
    reader = sign_in("reader")
    make_exam()
    with room.database.transaction() as session:
        session.add_all([Job(kind="judge", key=f"k{number}", payload={}) for number in range(3)])
    for _ in range(2):
        reader.get("/v1/me")
    token = {"Authorization": "Bearer figures"}
    text = reader.get("/metrics", headers=token).text
    assert 'fundoscope_requests_total{method="GET",route="/v1/me",status="200"} 2.0' in text
    assert 'fundoscope_jobs{kind="judge",state="waiting"} 3.0' in text
    assert 'fundoscope_exams{state="open"} 1.0' in text
    assert 'fundoscope_request_seconds_count{method="GET",route="/v1/me"} 2.0' in text
    assert "fundoscope_oldest_job_seconds" in text


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200), ("::1", {}, 200), ("192.0.2.1", {}, 403), ("192.0.2.1", {"Authorization": "Bearer x"}, 403),
        ("192.0.2.1", {"Authorization": "Bearer "}, 403), ("192.0.2.1", {"Authorization": "Bearer figures"}, 200),
    ],
)  # fmt: skip
def test_figures_are_for_this_machine_or_the_token(client, address, headers, status):
    asks = TestClient(client.app, client.base_url, client=(address, 1))
    assert asks.get("/metrics", headers=headers).status_code == status


def test_nothing_is_sent_to_anybody(app):
    assert not any(app._telemetry[name] for name in ("tracing", "metrics", "logs", "operation_spans", "auto_configure"))
