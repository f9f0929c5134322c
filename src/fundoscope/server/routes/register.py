"""All routers of the reading room, in the order in which they stand in `/v1/openapi.json`."""

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
    uploads.api,
    uploads.router,
    pictures.api,
    pictures.router,
    worklist.router,
    programme.router,
    read.router,
    readings_v1.router,
    second_readings.router,
    reports.router,
    reports.api,
    exports.router,
)
