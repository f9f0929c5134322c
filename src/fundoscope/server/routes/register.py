"""All routers of the reading room. A request is held against route after route, so what is asked most often stands first."""

from __future__ import annotations

from fastapi import APIRouter

from fundoscope.server.routes import (
    account,
    administration,
    administration_v1,
    exams,
    exams_v1,
    exports,
    health,
    links,
    lists_v1,
    patients,
    patients_v1,
    pictures,
    programme,
    read,
    readings_v1,
    reports,
    second_readings,
    sign_in,
    single_sign_on,
    static,
    uploads,
    worklist,
)

ROUTERS: tuple[APIRouter, ...] = (
    uploads.api,
    worklist.router,
    health.router,
    static.router,
    sign_in.router,
    single_sign_on.router,
    links.router,
    account.router,
    account.api,
    administration.router,
    administration_v1.router,
    patients.router,
    exams.router,
    lists_v1.router,
    patients_v1.router,
    exams_v1.router,
    uploads.router,
    pictures.api,
    pictures.router,
    programme.router,
    read.router,
    readings_v1.router,
    second_readings.router,
    reports.router,
    reports.api,
    exports.router,
)
