"""The page on REST names every route, and its commands work as they are written."""

import json
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from fundoscope.server.services import tokens
from fundoscope.server.services.tokens import NewToken

PAGE = Path(__file__).parents[2] / "docs/reference/rest.md"


def test_the_page_names_every_route(client):
    described = client.get("/v1/openapi.json").json()["paths"]
    named = set(re.findall(r"`(/v1/[^`?]+)`", PAGE.read_text()))
    assert {path for path in described if path.startswith("/v1/")} - named == set()
    assert named - set(described) - {"/v1/openapi.json"} == set()


@pytest.mark.services
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_work_as_they_are_written(app, room, sign_in, tmp_path):
    nurse = sign_in("technician")
    with room.database.transaction() as session:
        _row, token = tokens.make_token(session, nurse.caller, NewToken(name="a script", days=1))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    commands = "\necho\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL))
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands], cwd=tmp_path, capture_output=True, text=True, timeout=60,
            env={"ROOM": f"http://localhost:{port}", "TOKEN": token, "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    finally:
        server.should_exit = True
        thread.join()
    assert done.returncode == 0, done.stderr
    answers = [json.loads(part) for part in re.findall(r"^\{.*?\}$", done.stdout.replace("}{", "}\n{"), re.MULTILINE)]
    assert [answer for answer in answers if answer.get("type") == "about:blank"] == []
    me, patient, exam, page, changed, corrections = answers
    assert me["role"] == "technician" and patient["due"]["rule"] == "first_exam" and exam["postmenstrual_age"] == "33+5"
    assert page["items"][0]["id"] == patient["id"] and changed["birth_weight"] == 1060
    assert corrections["items"][0]["before"] == "1050"
