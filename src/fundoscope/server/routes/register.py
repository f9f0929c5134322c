"""All routers of the reading room, in the order in which they stand in `/v1/openapi.json`."""

from __future__ import annotations

from fastapi import APIRouter

from fundoscope.server.routes import health, sign_in, static

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    static.router,
    sign_in.router,
)
