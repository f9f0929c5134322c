"""Settings of one reading room: where it keeps its data, where it listens, and its limits."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fundoscope.errors import UsageError, nearest
from fundoscope.server.dicom.settings import ReceiverSettings, WorklistSettings

Size = Annotated[int, Field(gt=0)]
#: Of a sign-in at an identity provider, from the button to the way back.
FLOW_SECONDS = 600


def _few_processors() -> int:
    """As many as this process may use, four at most."""
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class UploadLimits(BaseModel):
    """What one upload may hold; bytes, pixels, counts, seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file_bytes: Size = 64 << 20
    upload_bytes: Size = 512 << 20  # of one request, archives unpacked
    pixels: Size = 60_000_000  # of one photograph
    files: Size = 500  # of one request
    waiting_jobs: Size = 2_000  # photographs that wait to be judged before new ones are answered with 503
    grading_seconds: Size = 120  # of one photograph, before the child process is ended
    grading_bytes: Size = 3 << 30  # address space of the child process


class RateLimits(BaseModel):
    """How often one may ask, in requests a minute; more are answered 429. A burst of a quarter of it is free."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: Size = 6_000  # a hospital often comes from one address
    account: Size = 3_000
    sign_in: Size = 60  # passwords and links tried from one address


class SingleSignOn(BaseModel):
    """An identity provider that speaks OpenID Connect; `label` stands on the button."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str  # its configuration lies at ISSUER/.well-known/openid-configuration
    client_id: str
    client_secret_file: Path | None = None  # None: a public client, whose proof is PKCE alone
    label: str = "Single sign-on"
    scope: str = "openid profile"

    @property
    def client_secret(self) -> str | None:
        """The secret, without a line break at its end."""
        return None if self.client_secret_file is None else self.client_secret_file.read_text().strip()


class TrafficSettings(BaseModel):
    """How patient the room is with a PACS and with cameras; seconds, counts.

    An answer that was not taken waits `first_wait_seconds`, each further time twice as long up to `longest_wait_seconds`, and is
    given up after `attempts`: a week.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settle_seconds: Annotated[float, Field(ge=0)] = 60  # after the last photograph was judged: more of them may come
    first_wait_seconds: Annotated[float, Field(gt=0)] = 30
    longest_wait_seconds: Annotated[float, Field(gt=0)] = 3600
    attempts: Size = 175
    answer_seconds: Annotated[float, Field(gt=0)] = 60  # that one answer of another system may take
    whole_seconds: Annotated[float, Field(ge=0)] = (
        10  # that a file in a watched folder has not changed before it is taken
    )


class ServerSettings(BaseModel):
    """One reading room.

    `data` holds the database (unless `database` names another) and the photographs. `proxies` are addresses of reverse proxies
    whose forwarded headers are believed; `hosts` the names under which the room is reached beside loopback.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    database: str = ""  # URL; blank: SQLite in `data`
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    certificate: Path | None = None  # TLS, with its key
    key: Path | None = None
    proxies: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    workers: Size = Field(default_factory=_few_processors)  # child processes that judge photographs, some 130 MB each
    idle_minutes: Size = 15  # until a session is locked
    session_hours: Size = 12
    debug: bool = False  # what nobody foresaw is raised on, for makers
    limits: UploadLimits = UploadLimits()
    rates: RateLimits = RateLimits()
    traffic: TrafficSettings = TrafficSettings()
    receiver: ReceiverSettings | None = None  # of photographs, by DIMSE
    worklist: WorklistSettings | None = None  # of the hospital
    single_sign_on: SingleSignOn | None = None
    metrics_token_file: Path | None = None  # who asks for /metrics from beyond loopback sends the token in it

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.database and not self.database.startswith(("postgresql://", "postgresql+psycopg://", "sqlite:///")):
            raise ValueError("--database takes a URL that begins with postgresql://, or with sqlite:///")
        for proxy in self.proxies:
            try:
                ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError(f"--proxy {proxy}: is no address. Give one such as 10.0.0.7, or 10.0.0.0/24") from None
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key go together: give both or none")
        return self

    @property
    def has_station(self) -> bool:
        """Whether something of DIMSE runs beside the room."""
        return self.receiver is not None or self.worklist is not None

    @property
    def database_url(self) -> str:
        """The URL of the database, as SQLAlchemy reads it."""
        return self.database or f"sqlite:///{self.data / 'fundoscope.sqlite'}"

    @property
    def photographs(self) -> Path:
        """The folder of the photographs as they came, named by the digest of their bytes."""
        return self.data / "photographs"

    @property
    def pictures(self) -> Path:
        """The folder of pictures made of them: re-encoded photographs, activation maps, reports."""
        return self.data / "pictures"


def _tables(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A table of a TOML file, and all within it."""
    yield table
    for value in table.values():
        if isinstance(value, dict):
            yield from _tables(value)


def read_settings(data: Path, given: Mapping[str, Any]) -> ServerSettings:
    """The settings in `data`/settings.toml where there is one, with those of `given` over them.

    Paths in the file are relative to its folder. Raises `UsageError` for a file or a value that cannot be taken.
    """
    file = data / "settings.toml"
    values: dict[str, Any] = {}
    if file.exists():
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{file}: cannot be read as TOML ({error}). Put it right, or remove it.") from error
        if "data" in values:
            raise UsageError(f"{file}: 'data' is the folder in which the file lies. Remove the line.")
    for place in _tables(values):
        for name in ("certificate", "key", "authority", "metrics_token_file", "client_secret_file"):
            if isinstance(place.get(name), str):
                place[name] = data / place[name]
    try:
        settings = ServerSettings.model_validate({"data": data.absolute()} | values | dict(given))
    except ValidationError as error:
        one = error.errors()[0]
        name = ".".join(str(part) for part in one["loc"]) or "the settings"
        known = f" {nearest(name, ServerSettings.model_fields)}" if one["type"] == "extra_forbidden" else ""
        source = file if str(one["loc"][:1] and one["loc"][0]) in values else "the command"
        raise UsageError(
            f"{source}: {name}: {one['msg'].removeprefix('Value error, ')}.{known} See docs/how-to/run-the-reading-room.md."
        ) from error
    for path in (settings.certificate, settings.key, settings.metrics_token_file):
        if path is not None and not path.is_file():
            raise UsageError(f"{path}: there is no such file. Name the file, or leave the option out.")
    return settings
