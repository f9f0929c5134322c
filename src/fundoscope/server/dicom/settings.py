"""Settings of the traffic by DIMSE: titles, TLS, another application entity, the receiver. Nothing here opens a socket."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fundoscope.errors import UsageError
from fundoscope.languages import kept_text

OUR_TITLE = "FUNDOSCOPE"
_ADDRESS = re.compile(r"(?P<title>[^@]{1,16})@(?P<host>\[[0-9a-fA-F:.]+\]|[^@:\s\[\]]+):(?P<port>\d{1,5})")
Network = IPv4Network | IPv6Network
Size = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


_NO_TITLE = kept_text("'{text}' is no AE title. Take 1 to 16 letters and digits.")
_NO_URL = kept_text(
    "'{text}' is no address of DICOMweb. Write it as https://pacs.example.org/dicom-web, without a password."
)


def check_title(title: str) -> str:
    """A title of an application entity (PS3.5, table 6.2-1): 1 to 16 characters of ASCII, no backslash; `ValueError` for another."""
    title = title.strip()
    if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ValueError(_NO_TITLE.format(text=title))
    return title


def check_url(url: str) -> str:
    """The address of a DICOMweb server without a slash at its end; `ValueError` for another one."""
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port, or an address of IPv6, that is none
        usable = False
    if not usable or any(letter in "@?#" or letter.isspace() for letter in url):
        raise ValueError(_NO_URL.format(text=url))
    return url


def peer_address(title: str, host: str, port: int) -> str:
    """TITLE@HOST:PORT, with an address of IPv6 in brackets."""
    return f"{title}@{f'[{host}]' if ':' in host else host}:{port}"


AeTitle = Annotated[str, AfterValidator(check_title)]


class TlsFiles(BaseModel):
    """PEM files for TLS.

    `authority` holds the certificates of those whom we believe; None: those of the system, and in a receiver nobody is asked for
    one. `certificate` and `key` show who we are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    check_name: bool = True  # whether the certificate of the other side must name its host

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key go together: give both or none")
        return self

    def client_context(self) -> ssl.SSLContext:
        """The context of who calls; raises `UsageError` for files that cannot be used."""
        try:
            made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.authority)
            made.check_hostname = self.check_name
            if self.certificate is not None:
                made.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise self._unusable(error) from error
        return made

    def server_context(self) -> ssl.SSLContext:
        """The context of who listens: with an `authority` callers must show a certificate of its. Raises `UsageError` as above."""
        if self.certificate is None:
            raise UsageError("TLS: who listens needs a certificate and its key. Name both PEM files.")
        try:
            made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.authority)
            made.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise self._unusable(error) from error
        if self.authority is not None:
            made.verify_mode = ssl.CERT_REQUIRED
        return made

    def _unusable(self, error: Exception) -> UsageError:
        files = ", ".join(str(each) for each in (self.certificate, self.key, self.authority) if each is not None)
        return UsageError(f"{files}: cannot be used for TLS ({error}). Name PEM files that belong together.")


class DimsePeer(BaseModel):
    """Another application entity, called `title`; `calling` is what we call ourselves there.

    With `commitment` it is asked to commit itself to what was sent; its report is waited for `commitment_seconds`. `seconds` is how
    long one answer may take.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: AeTitle
    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65535)
    calling: AeTitle = OUR_TITLE
    tls: TlsFiles | None = None
    commitment: bool = False
    commitment_seconds: float = Field(10.0, ge=0)
    seconds: float = Field(60.0, gt=0)

    def __str__(self) -> str:
        return peer_address(self.title, self.host, self.port)

    @classmethod
    def parse(cls, address: str, **more: Any) -> DimsePeer:
        """The peer of TITLE@HOST:PORT; `more` are other fields. Raises `UsageError` for what is no such address."""
        found = _ADDRESS.fullmatch(address.strip())
        if found is None:
            raise UsageError(f"{address}: is no address. Write it as TITLE@HOST:PORT, such as ORTHANC@127.0.0.1:4242.")
        try:
            return cls(title=found["title"], host=found["host"].strip("[]"), port=int(found["port"]), **more)
        except ValidationError as error:
            one = error.errors()[0]
            raise UsageError(
                f"{address}: {one['loc'][0]}: {one['msg'].removeprefix('Value error, ')}. Write TITLE@HOST:PORT."
            ) from error


class ReceiverSettings(BaseModel):
    """Where photographs are received, from whom, and how much; bytes, counts, seconds.

    `allow` are addresses or networks that may send, this computer alone unless told otherwise. `callers` are titles; blank: any.
    Less than `free_bytes` on the disk, and nothing is taken. In a reading room the photographs are of `site` (blank: the only one),
    as `patients` of one kind; `issuer` gives the hospital's own numbers, and without `adds_patients` an unknown patient is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: AeTitle = OUR_TITLE
    host: str = "127.0.0.1"
    port: int = Field(11112, ge=0, le=65535)
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1")
    callers: tuple[AeTitle, ...] = ()
    tls: TlsFiles | None = None
    object_bytes: Size = 64 << 20
    association_objects: Size = 10_000
    associations: Size = 16
    free_bytes: int = Field(1 << 30, ge=0)
    idle_seconds: Seconds = 60
    site: str = ""
    patients: Literal["infant", "adult"] = "infant"
    issuer: str = ""
    adds_patients: bool = True

    @field_validator("allow")
    @classmethod
    def _check(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for each in allow:
            try:
                ip_network(each, strict=False)
            except ValueError:
                raise ValueError(f"{each} is no address. Give one such as 10.0.0.7, or 10.0.0.0/24") from None
        return allow

    @property
    def networks(self) -> tuple[Network, ...]:
        """The addresses that may send."""
        return tuple(ip_network(each, strict=False) for each in self.allow)


def choose_receiver(values: Mapping[str, Any]) -> ReceiverSettings:
    """The settings of options; None is not given. Raises `UsageError` for a value that cannot be taken."""
    try:
        return ReceiverSettings.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        one = error.errors()[0]
        name = "--" + str(one["loc"][0]).replace("callers", "caller")
        raise UsageError(f"{name}: {one['msg'].removeprefix('Value error, ')}.".replace("..", ".")) from error


class WorklistSettings(BaseModel):
    """A hospital's worklist that is asked every `every` seconds for the orders of today, by DIMSE.

    `modality` and `station` (a title; blank: all) narrow the question. `site`, `patients` and `issuer` are as in `ReceiverSettings`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    peer: DimsePeer
    modality: str = "OP"
    station: str = ""
    every: Seconds = 300
    site: str = ""
    patients: Literal["infant", "adult"] = "infant"
    issuer: str = ""
