"""Figures for Prometheus: how often and how fast each route is asked, and what waits. No label holds a number of a row or a name."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from fundoscope.server.database import Database
from fundoscope.server.models import Exam, Job, now

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1, 3, 10, 30)


class RoomMetrics:
    """The figures of one room."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route")
        self.requests = Counter(
            "fundoscope_requests", "Requests by route and status.", (*labels, "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "fundoscope_request_seconds",
            "Seconds until an answer began.",
            labels,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.open = Gauge("fundoscope_requests_open", "Requests that are being answered.", registry=self.registry)
        self.registry.register(_Queue(database))

    def write(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


class _Queue(Collector):
    """What waits, read from the database when it is asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterator[Metric]:
        """Nothing is read to register it."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Jobs by kind and state, the age of the oldest one that waits, exams by state."""
        with self._database.reading() as session:
            jobs = session.execute(select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state)).all()
            oldest = session.scalar(select(func.min(Job.run_after)).where(Job.state == "waiting"))
            exams = session.execute(select(Exam.state, func.count()).group_by(Exam.state)).all()
        family = GaugeMetricFamily("fundoscope_jobs", "Jobs by kind and state.", labels=("kind", "state"))
        for kind, state, count in jobs:
            family.add_metric((kind, state), count)
        yield family
        age = GaugeMetricFamily("fundoscope_oldest_job_seconds", "How long the oldest job that is due waits.")
        age.add_metric((), max(0.0, (now() - oldest).total_seconds()) if oldest else 0.0)
        yield age
        family = GaugeMetricFamily("fundoscope_exams", "Exams by state.", labels=("state",))
        for state, count in exams:
            family.add_metric((state,), count)
        yield family
