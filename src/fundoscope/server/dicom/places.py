"""Settings of the traffic: destinations of answers and sources of photographs, which administrators add and change.

A password that was given is sealed, and never told again: to change something else it is left blank.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import select
from sqlalchemy.orm import Session

from fundoscope.errors import FundoscopeError
from fundoscope.languages import gettext as _
from fundoscope.languages import translate_kept
from fundoscope.server.dicom.settings import DimsePeer, TlsFiles, check_title, check_url
from fundoscope.server.errors import ConflictError, InvalidError, NotFoundError
from fundoscope.server.models import DicomDestination, DicomSource, Site
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.room import Room
from fundoscope.server.security.sealing import seal, unseal
from fundoscope.server.services import audit
from fundoscope.server.services.inputs import BLANK_IS_NONE, Line, Number, ShortLine
from fundoscope.server.settings import ServerSettings

if TYPE_CHECKING:
    from fundoscope.server.dicom.web import DicomwebServer

_PACKAGES = ("pydicom", "highdicom", "pynetdicom", "dicomweb_client")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
#: What a pattern of names may hold in braces.
PATTERN_FIELDS = ("patient", "eye", "view", "day", "any")
DEFAULT_PATTERN = "{patient}/{any}"
_TRIAL_SECONDS = 10.0  # that a system may take to answer while somebody waits before a page


def _fault(message: str, **values: str) -> PydanticCustomError:
    return PydanticCustomError("fundoscope", "{message}", {"message": message.format(**values)})


def _checked(check: Callable[[str], str]) -> AfterValidator:
    """The check of a value that may be blank, which says what is wrong in the language spoken."""

    def say(text: str) -> str:
        try:
            return check(text) if text else text
        except ValueError as error:
            raise _fault("{told}", told=translate_kept(str(error))) from None

    return AfterValidator(say)


def _check_file(text: str) -> str:
    if text and not Path(text).is_file():
        raise _fault(_("There is no file {file} on the room's computer. Name a PEM file that is there."), file=text)
    return text


def _check_folder(text: str) -> str:
    if text and not Path(text).is_absolute():
        raise _fault(_("'{text}' is no whole path. Write it from the root on: /srv/camera."), text=text)
    return text


def _check_pattern(text: str) -> str:
    names = _PLACEHOLDER.findall(text)
    if text and ("patient" not in names or not set(names) <= set(PATTERN_FIELDS) or len(set(names) - {"any"}) < len(names) - names.count("any")):  # fmt: skip
        raise _fault(
            _("'{text}' is no pattern. It holds {{patient}} once, and may hold {{eye}}, {{view}}, {{day}} and {{any}}: {{patient}}/{{any}}."),
            text=text,
        )  # fmt: skip
    return text


def _split_list(value: Any) -> Any:
    return [part.strip().upper() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


_File = Annotated[Annotated[Line, Field(max_length=500)], AfterValidator(_check_file)]
_Title = Annotated[Annotated[Line, Field(max_length=16)], _checked(check_title)]
_Url = Annotated[Annotated[Line, Field(max_length=500)], _checked(check_url)]
_Modality = Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$")]


class _Server(BaseModel):
    """What both kinds have: a name, a site, and how a server is reached."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[Line, Field(min_length=1, max_length=100)]
    site_id: Number
    active: bool = True
    url: _Url = Field("", description="Of DICOMweb.", examples=["https://pacs.example.org/dicom-web"])
    user: Line = ""
    password: Annotated[str, Field(max_length=500)] = Field(
        "", description="Kept sealed, and never told again. Left blank it stays as it is while user and address do."
    )
    authority_file: _File = Field("", description="PEM file on the room's computer: whose certificates are believed.")
    certificate_file: _File = Field("", description="PEM file: our own certificate, where the other side asks for one.")
    key_file: _File = ""

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if bool(self.certificate_file) != bool(self.key_file):
            raise _fault(_("A certificate and its key go together. Give both, or none."))
        return self


class DestinationValues(_Server):
    """A system to which the answers to a site's exams are sent; see `models.DicomDestination`."""

    content: Literal["tool", "signed", "both", "nothing"] = "both"
    moment: Literal["judged", "signed"] = "judged"
    protocol: Literal["dicomweb", "dimse"] = "dicomweb"
    host: Annotated[Line, Field(max_length=255)] = Field("", description="Of DIMSE.")
    port: Annotated[Annotated[int, Field(ge=1, le=65535)] | None, BLANK_IS_NONE] = None
    called_title: _Title = ""
    calling_title: _Title = "FUNDOSCOPE"
    tls: bool = False
    commitment: bool = Field(False, description="Ask for storage commitment.")

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if self.protocol == "dicomweb" and not self.url:
            raise _fault(_("DICOMweb needs an address. Write it as https://pacs.example.org/dicom-web."))
        if self.protocol == "dimse" and not (self.host and self.port and self.called_title and self.calling_title):
            raise _fault(
                _("DIMSE needs a host, a port, and both AE titles. Ask the administrator of the PACS for them.")
            )
        return self


class SourceValues(_Server):
    """Where photographs of a site come from; see `models.DicomSource`."""

    kind: Literal["dicomweb", "folder"] = "dicomweb"
    patients: Literal["infant", "adult"] = "infant"
    adds_patients: bool = True
    issuer: ShortLine = Field("", description="Who gives the hospital's own numbers (0010,0021).")
    modalities: Annotated[list[_Modality], BeforeValidator(_split_list), Field(max_length=10)] = Field(
        default_factory=lambda: ["OP"], description="Of the series that are searched."
    )
    days: Annotated[int, Field(ge=1, le=3650)] = Field(2, description="How far back studies are searched.")
    folder: Annotated[Annotated[Line, Field(max_length=500)], AfterValidator(_check_folder)] = ""
    pattern: Annotated[Annotated[Line, Field(max_length=200)], AfterValidator(_check_pattern)] = DEFAULT_PATTERN
    interval: Annotated[int, Field(ge=1, le=86_400)] = Field(60, description="Seconds between two looks.")

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if self.kind == "dicomweb" and not (self.url and self.modalities):
            raise _fault(_("DICOMweb needs an address and at least one modality, such as OP."))
        if self.kind == "folder" and not (self.folder and self.pattern):
            raise _fault(_("A watched folder needs its path and a pattern of names."))
        return self


Row = TypeVar("Row", DicomDestination, DicomSource)


# --- look and change; an administrator manages those of all sites, as their rules


def list_places(session: Session, caller: Caller, model: type[Row]) -> Sequence[Row]:
    """All destinations, or all sources, by their numbers."""
    caller.require(Role.ADMINISTRATOR)
    return session.scalars(select(model).order_by(model.id)).all()


def find_place(session: Session, caller: Caller, model: type[Row], number: int) -> Row:
    """One destination or source."""
    caller.require(Role.ADMINISTRATOR)
    row = session.get(model, number)
    if row is None:
        raise NotFoundError(model.noun, number)
    return row


def add_place(
    session: Session, caller: Caller, settings: ServerSettings, model: type[Row], values: DestinationValues | SourceValues
) -> Row:  # fmt: skip
    """Add a destination or a source."""
    caller.require(Role.ADMINISTRATOR)
    _check_place(session, settings, model, values, None)
    row = model(created_by=caller.user_id, created_via=caller.via, **values.model_dump(exclude={"password"}))
    row.password = seal(settings, values.password)
    session.add(row)
    session.flush()
    audit.record(session, caller, f"{model.noun}.add", model.noun, row.id, row.site_id)
    return row


def change_place(
    session: Session, caller: Caller, settings: ServerSettings, model: type[Row], number: int,
    values: DestinationValues | SourceValues,
) -> Row:  # fmt: skip
    """Change a destination or a source; its site stays.

    A password that is left blank stays, unless the address or the user changes: then it must be given again, so that nobody can have
    it sent to an address of their own.
    """
    caller.require(Role.ADMINISTRATOR)
    row = find_place(session, caller, model, number)
    _check_place(session, settings, model, values, row)
    moved = (row.url, row.user) != (values.url, values.user)
    if row.password and moved and not values.password and values.url and values.user:
        raise InvalidError(_("The address or the user changes. Enter the password again."), "password")
    given = values.model_dump(exclude={"password"})
    changed = sorted(name for name, value in given.items() if getattr(row, name) != value)
    for name, value in given.items():
        setattr(row, name, value)
    if values.password or moved:
        row.password = seal(settings, values.password)
        changed.append("password")
    if isinstance(row, DicomSource):
        row.next_look_at = None  # soon
    session.flush()
    audit.record(session, caller, f"{model.noun}.change", model.noun, row.id, row.site_id, changed=changed)
    return row


def _check_place(
    session: Session, settings: ServerSettings, model: type[Row], values: DestinationValues | SourceValues, row: Row | None
) -> None:  # fmt: skip
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        told = _("The packages for DICOM are not installed on the room's computer: pip install 'fundoscope[dicom]'.")
        raise ConflictError(told)
    if session.get(Site, values.site_id) is None:
        raise InvalidError(
            _("There is no site {number}. Choose sites of the list.").format(number=values.site_id), "site_id"
        )
    if isinstance(values, SourceValues) and values.kind == "folder":
        watched, own = Path(values.folder).resolve(), settings.data.resolve()
        if watched.is_relative_to(own) or own.is_relative_to(watched):
            raise InvalidError(
                _("This folder holds the room's own files, or lies among them. Take another one."), "folder"
            )
    if row is not None and row.site_id != values.site_id:
        raise InvalidError(_("What was sent and found belongs to its site. Add another one for that site."), "site_id")
    taken = session.scalar(select(model.id).where(model.site_id == values.site_id, model.name == values.name))
    if taken is not None and (row is None or taken != row.id):
        raise InvalidError(_("There is one of that name already. Take another name."), "name")


# --- as those who open sockets want them


def server_of(settings: ServerSettings, row: DicomDestination | DicomSource) -> DicomwebServer:
    """The DICOMweb server of a destination or a source."""
    from fundoscope.server.dicom.web import DicomwebServer

    return DicomwebServer(
        url=row.url, user=row.user, password=unseal(settings, row.password), authority=_path(row.authority_file),
        certificate=_path(row.certificate_file), key=_path(row.key_file), seconds=settings.traffic.answer_seconds,
        file_bytes=settings.limits.file_bytes,
    )  # fmt: skip


def peer_of(settings: ServerSettings, row: DicomDestination) -> DimsePeer:
    """The application entity of a destination."""
    authority, certificate, key = map(_path, (row.authority_file, row.certificate_file, row.key_file))
    tls = TlsFiles(authority=authority, certificate=certificate, key=key) if row.tls else None
    assert row.port is not None
    return DimsePeer(
        title=row.called_title, host=row.host, port=row.port, calling=row.calling_title, tls=tls,
        commitment=row.commitment, seconds=settings.traffic.answer_seconds,
    )  # fmt: skip


def _path(file: str) -> Path | None:
    return Path(file) if file else None


def try_place(room: Room, caller: Caller, model: type[Row], number: int) -> str:
    """Why a destination or a source cannot be used as it is set; blank where it answers. It takes some seconds at most."""
    with room.database.reading() as session:
        row = find_place(session, caller, model, number)
    traffic = room.settings.traffic
    quick = traffic.model_copy(update={"answer_seconds": min(_TRIAL_SECONDS, traffic.answer_seconds)})
    settings = room.settings.model_copy(update={"traffic": quick})
    try:
        if isinstance(row, DicomSource) and row.kind == "folder":
            folder = Path(row.folder)
            if not folder.is_dir() or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                told = _("The folder {folder} is not there, or the room may not move files in it.")
                return told.format(folder=folder)
        elif isinstance(row, DicomDestination) and row.protocol == "dimse":
            from fundoscope.server.dicom.peers import send_echo

            send_echo(peer_of(settings, row))
        else:
            from fundoscope.server.dicom.web import DicomwebConnection

            DicomwebConnection(server_of(settings, row)).try_out()
    except FundoscopeError as error:
        return translate_kept(str(error))
    return ""
