"""The ASGI application of a reading room."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException

from fundoscope.errors import FundoscopeError
from fundoscope.server.database import Database
from fundoscope.server.metrics import RoomMetrics
from fundoscope.server.room import Room
from fundoscope.server.routes.register import ROUTERS
from fundoscope.server.routes.v1 import DESCRIPTION, TAGS
from fundoscope.server.security.answers import answer_error
from fundoscope.server.security.gate import Gate
from fundoscope.server.security.witness import Witness
from fundoscope.server.settings import ServerSettings
from fundoscope.server.worker import work_beside

if TYPE_CHECKING:
    from fundoscope.server.security.single_sign_on import Provider


def create_app(settings: ServerSettings, with_worker: bool = False) -> FastAPI:
    """The application; the schema is brought up to date when it starts, and `with_worker` a worker process runs beside it."""
    room = Room(settings, Database(settings.database_url))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        room.database.upgrade()
        with work_beside(room) if with_worker else nullcontext():
            yield
        room.database.dispose()

    app = FastAPI(
        title="Fundoscope", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json",
        version=version("fundoscope"), description=DESCRIPTION, openapi_tags=TAGS,
        generate_unique_id_function=lambda route: route.name,
        # FastAPI can send spans, with values that people typed, to where its environment says
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False},
    )  # fmt: skip
    app.state.room = room
    app.state.provider = _open_provider(settings)
    app.state.metrics = RoomMetrics(room.database)
    app.add_middleware(Gate, room=room)
    app.add_middleware(Witness, metrics=app.state.metrics)  # added last, it stands first
    for kind in (FundoscopeError, RequestValidationError, HTTPException, OperationalError, DataError):
        app.add_exception_handler(kind, answer_error)
    for router in ROUTERS:
        app.include_router(router)
    return app


def _open_provider(settings: ServerSettings) -> Provider | None:
    """The identity provider of the settings; its libraries are loaded where there is one."""
    if settings.single_sign_on is None:
        return None
    from fundoscope.server.security.single_sign_on import Provider

    return Provider(settings.single_sign_on)
