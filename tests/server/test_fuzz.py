"""No request brings the room down: schemathesis makes requests from `/v1/openapi.json`, with a fixed seed, 20 for each route.

Half of them are about rows that are there, by a role that may call the route. An answer of 500 or more is a fault, and so is one that
the description does not know.
"""

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="the extra dev is not installed")

import itertools
import json

from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_matrix import ADMINISTRATOR, ALL, MATRIX, READER, make_world

from fundoscope.server.settings import RateLimits

EXAMPLES = 20
SEED = 20261128
#: Streams, which go on and on.
LEFT_OUT = {"GET /v1/exams/{exam_id}/events"}
NUMBERS = itertools.count()
#: Headers that are ours to send.
OURS = ("user-agent", "authorization", "host", "origin", "cookie", "x-csrf-token", "x-schemathesis-testcaseid")
#: Statuses that the gate may answer whatever the route is.
ALWAYS = {400, 405, 413, 415, 421}
#: What a number in a path names.
NAMED = {
    "patient_id": "patient", "exam_id": "exam", "photograph_id": "photograph", "reading_id": "draft", "job_id": "job",
    "report_id": "report", "number": "exam", "destination_id": "destination", "source_id": "source",
}  # fmt: skip


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"rates": RateLimits(address=10**6, account=10**6, sign_in=10**6)})


@pytest.mark.services
def test_no_request_brings_the_room_down(client, room, site, sign_in):
    people = {role: sign_in(role) for role in ALL}
    world = make_world(room, site, people[READER].id, "MARK")
    schema = schemathesis.openapi.from_dict(client.get("/v1/openapi.json").json())
    faults, refused_only = [], []
    for result in schema.get_all_operations():
        operation = result.ok()
        route = f"{operation.method.upper()} {operation.path}"
        if route not in LEFT_OUT:
            roles = MATRIX[route].roles or ALL
            statuses = try_route(route, operation, people[READER if READER in roles else ADMINISTRATOR], world, faults)
            refused_only += [route] if statuses <= {400, 422} else []
    first = {fault[:2]: str(fault) for fault in reversed(faults)}  # one of each kind
    assert faults == [], "\n".join(first.values())
    assert refused_only == [], "Nothing of these routes was tried."


def try_route(route, operation, person, world, faults):
    """The statuses of the answers; what is wrong with one goes to `faults`."""
    described = {int(status) for status in operation.definition.raw["responses"] if status.isdecimal()}
    statuses = set()

    @seed(SEED)
    @hypothesis_settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(), st.booleans())
    def ask(case, of_rows):
        if of_rows:
            put_rows(case, world)
        sent = case.as_transport_kwargs(base_url="http://localhost:8000")
        sent.pop("cookies", None)
        if isinstance(
            sent.get("files"), list
        ):  # of a form's fields the client writes texts and bytes only, and numbers are drawn, too
            sent["files"] = [
                (field, (name, part if isinstance(part, bytes) else str(part))) for field, (name, part) in sent["files"]
            ]
        sent["headers"] = {name: text for name, text in sent["headers"].items() if name.lower() not in OURS}
        try:
            answer = person.request(**sent, follow_redirects=False)
        except Exception as error:  # noqa: BLE001 - with `debug` the room lets it through
            faults.append((route, repr(error)[:300], describe(sent)))
            return
        statuses.add(answer.status_code)
        if answer.status_code not in described | ALWAYS:
            faults.append((route, answer.status_code, describe(sent)))
        elif answer.status_code >= 400 and answer.headers["content-type"] != "application/problem+json":
            faults.append((route, answer.headers["content-type"], describe(sent)))

    ask()
    return statuses


def put_rows(case, world):
    """Let a request be about rows that are there."""
    for name in set(NAMED) & set(case.path_parameters or {}):
        case.path_parameters[name] = getattr(world, NAMED[name])
    if isinstance(case.body, dict):
        rows = {
            "site_id": world.site, "patient_id": world.patient, "into": world.other_patient, "exam_id": world.exam,
            "sites": [world.site], "guideline": "china-2014", "required_views": [], "name": f"n{next(NUMBERS)}", "full_name": "N",
            "language": "en", "subject": "",
        }  # fmt: skip
        case.body.update({name: row for name, row in rows.items() if name in case.body})
        if case.operation.path.startswith("/v1/dicom/"):  # an address, and defaults where a text has a form of its own
            kept = {
                "name",
                "site_id",
                "active",
                "user",
                "password",
                "content",
                "moment",
                "patients",
                "adds_patients",
                "days",
                "interval",
            }
            case.body = {name: value for name, value in case.body.items() if name in kept}
            case.body |= {
                "url": "https://pacs.example.org/dicom-web",
                "site_id": world.site,
                "name": f"n{next(NUMBERS)}",
            }


def describe(sent):
    return json.dumps(
        {name: sent[name] for name in ("url", "params", "json", "data", "headers") if sent.get(name)}, default=repr
    )[:600]
