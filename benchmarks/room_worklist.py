"""How long the worklist takes with 10,000 exams, on SQLite and on PostgreSQL.

    python benchmarks/room_worklist.py [--exams 10000] [--plans]

Writes the rows of a year of a screening programme directly: five sites, an infant for each exam or two, one exam in ten not signed
yet; and, the hardest case, the same with no exam signed. Then asks each kind of list 15 times. Of one page (rows, counts of all lanes,
and what stands beside the rows) it takes the slowest statement, the time of this process, and that of the clock, which whatever else
the machine does lengthens (`load` is how much was running). PostgreSQL is started in a temporary folder (Debian's package postgresql). Writes
docs/results/room_worklist.csv; two minutes on one core. `--plans` prints how the databases do it.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import event, insert, text

from fundoscope.server.database import Database
from fundoscope.server.models import Exam, ExamPhotograph, Grading, Patient, Site
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.services.exam_state import URGENCIES, UrgencyReason
from fundoscope.server.services.worklist import WorklistQuery, list_work

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "room_worklist.csv"
SITES = 5
REPEATS = 15
AT = datetime(2026, 6, 1, 9, tzinfo=UTC)
CALLER = Caller(None, "benchmark", Role.READER, frozenset(range(1, SITES + 1)))
LIMIT_MS = 50

QUERIES = {
    "the whole list": WorklistQuery(),
    "one site": WorklistQuery(site=1),
    "one lane": WorklistQuery(lane="to_read"),
    "infants who are overdue": WorklistQuery(due="overdue"),
    "adults": WorklistQuery(kind="adult"),
    "one camera in May": WorklistQuery(camera="Camera 3", day_from=date(2026, 5, 1), day_to=date(2026, 5, 31)),
    "signed exams": WorklistQuery(state="signed"),
    "search for a code": WorklistQuery(search="n07123"),
    "search for a name": WorklistQuery(search="infant 42"),
    "200 rows": WorklistQuery(limit=200),
}


def write_rows(database: Database, exams: int, signed_share: float, seed: int = 20) -> None:
    """A year of exams, their infants, two photographs each and their gradings, as plain rows."""
    chance = random.Random(seed)
    names = list(UrgencyReason)
    weights = (1, 1, 3, 1, 10, 5, 10, 69)
    patients, visits, photographs, gradings = [], [], [], []
    for number in range(1, exams + 1):
        adult, site = chance.random() < 0.2, chance.randrange(SITES) + 1
        uploaded = AT - timedelta(
            hours=chance.expovariate(1 / 30) if chance.random() > signed_share else chance.uniform(24, 8760)
        )
        state = "signed" if AT - uploaded > timedelta(hours=24) and chance.random() < signed_share else "to_read"
        due = uploaded.date() + timedelta(days=chance.randint(3, 21))
        finished = state == "signed" and uploaded < AT - timedelta(days=40)
        patients.append({
            "id": number, "site_id": site, "kind": "adult" if adult else "infant", "code": f"N{number:05}",
            "name": f"Infant {number}", "birth_date": uploaded.date() - timedelta(days=50), "gestational_age": chance.randint(170, 230),
            "due_by": None if adult or finished else due, "due_from": None, "left": "finished" if finished else "",
            "due": None if adult else {"decision": "stop" if finished else "examine"},
            "created_at": uploaded, "created_via": "command",
        })  # fmt: skip
        reason = chance.choices(names, weights)[0]
        acknowledged = uploaded + timedelta(hours=3) if state == "signed" and URGENCIES[reason] < 20 else None
        visits.append({
            "id": number, "site_id": site, "patient_id": number, "day": uploaded.date(), "camera": f"Camera {number % 7}",
            "accession": f"A{number:07}", "state": state, "urgency": URGENCIES[reason], "urgency_reason": reason.value,
            "missing_views": ["left:nasal"] if reason == UrgencyReason.MISSING_VIEWS else [], "uploaded_at": uploaded,
            "signed_at": uploaded + timedelta(hours=20) if state == "signed" else None, "acknowledged_at": acknowledged,
            "created_at": uploaded, "created_via": "command",
        })  # fmt: skip
        for eye in ("right", "left"):
            photographs.append({
                "id": len(photographs) + 1, "site_id": site, "exam_id": number, "digest": f"{len(photographs):064x}",
                "file_name": "a.png", "file_bytes": 1, "media_type": "image/png", "eye": eye, "view": "disc", "state": "graded",
                "created_at": uploaded, "created_via": "command",
            })  # fmt: skip
            crossings = [
                {"crossing": k, "grade": k % 4, "p0": 0.1, "confidence": 0.5} for k in range(1, 8 if adult else 1)
            ]
            gradings.append({
                "site_id": site, "photograph_id": len(photographs), "grader": "rop screen", "bundle": "b", "bundle_digest": "b",
                "version": "1", "status": "ok", "rows": {"rows": crossings}, "created_at": uploaded,
            })  # fmt: skip
    sites = [
        {"id": k + 1, "name": f"Site {k}", "guideline": "china-2014", "required_views": ["disc"]} for k in range(SITES)
    ]
    with database.transaction() as session:
        for table, rows in (
            (Site, sites),
            (Patient, patients),
            (Exam, visits),
            (ExamPhotograph, photographs),
            (Grading, gradings),
        ):
            session.execute(insert(table), rows)
    with database.transaction() as session:
        session.execute(text("ANALYZE"))


def measure(database: Database, query: WorklistQuery) -> tuple[int, list[float], list[float], float]:
    """Rows of a page; of each repeat after a first one the milliseconds of the clock and of this process; the slowest statement.

    A statement's time is its median over the repeats, until its first row is there.
    """
    clock, process, begun = [], [], {}
    statements: dict[str, list[float]] = defaultdict(list)

    def before(connection: object, cursor: object, *_: object) -> None:
        begun[cursor] = time.perf_counter()

    def after(connection: object, cursor: object, statement: str, *_: object) -> None:
        statements[statement].append(1000 * (time.perf_counter() - begun.pop(cursor)))

    event.listen(database.engine, "before_cursor_execute", before)
    event.listen(database.engine, "after_cursor_execute", after)
    for _ in range(REPEATS + 1):
        start, cpu = time.perf_counter(), time.process_time()
        with database.reading() as session:
            page = list_work(session, CALLER, query, AT)
        clock.append(1000 * (time.perf_counter() - start))
        process.append(1000 * (time.process_time() - cpu))
    event.remove(database.engine, "before_cursor_execute", before)
    event.remove(database.engine, "after_cursor_execute", after)
    slowest = max(float(np.median(times[len(times) // (REPEATS + 1) :])) for times in statements.values())
    return len(page.items), clock[1:], process[1:], slowest


def print_plans(database: Database) -> None:
    """How the database finds the rows of each statement of the whole list."""
    explain = "EXPLAIN QUERY PLAN " if database.engine.dialect.name == "sqlite" else "EXPLAIN (ANALYZE) "
    asked: list[tuple[str, object]] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def _note(connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    with database.reading() as session:
        list_work(session, CALLER, WorklistQuery(), AT)
    event.remove(database.engine, "before_cursor_execute", _note)
    with database.engine.connect() as connection:
        for statement, parameters in asked:
            if statement.startswith("SELECT"):
                print("\n--", " ".join(statement.split("FROM")[-1].split())[:200])
                for row in connection.exec_driver_sql(explain + statement, parameters):
                    print("   ", row[-1])


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, Database]]:
    """An empty SQLite file, and PostgreSQL where it is installed."""
    sys.path.insert(0, str(ROOT / "tests" / "server"))
    from postgres import find_programs, running_postgresql

    made = {"SQLite": Database(f"sqlite:///{folder / 'room.sqlite'}")}
    if find_programs() is None:
        print("PostgreSQL is not installed: only SQLite is measured.", file=sys.stderr)
        yield made
        return
    with running_postgresql() as url:
        made["PostgreSQL"] = Database(url)
        yield made
        made["PostgreSQL"].dispose()


def main() -> None:
    """Measure all and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=10_000)
    parser.add_argument("--plans", action="store_true")
    options = parser.parse_args()
    rows = []
    for signed_share in (0.9, 0.0):
        with tempfile.TemporaryDirectory() as folder, databases(Path(folder)) as made:
            for name, database in made.items():
                database.upgrade()
                write_rows(database, options.exams, signed_share)
                if options.plans:
                    print(f"\n=== {name}, {signed_share:.0%} signed")
                    print_plans(database)
                for label, query in QUERIES.items():
                    count, clock, process, slowest = measure(database, query)
                    row = {
                        "database": name, "exams": options.exams, "signed": signed_share, "list": label, "rows": count,
                        "slowest_statement_ms": round(slowest, 1), "page_process_ms": round(float(np.median(process)), 1),
                        "page_clock_ms": round(float(np.median(clock)), 1), "page_clock_ms_best": round(min(clock), 1),
                        "repeats": REPEATS, "load": round(os.getloadavg()[0], 1),
                    }  # fmt: skip
                    rows.append(row)
                    print(*row.values(), sep="  ")
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    slow = [row for row in rows if float(str(row["slowest_statement_ms"])) > LIMIT_MS]
    print(f"{len(rows) - len(slow)} of {len(rows)} lists have every statement within {LIMIT_MS} ms; {RESULTS}")
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
