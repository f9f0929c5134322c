"""A PACS by DICOMweb (PS3.18): searched for photographs (QIDO), asked for them (WADO), given answers (STOW).

Requests are those of the library dicomweb-client. What comes is limited in bytes and in time, and no proxy or password of this
computer's surroundings is used.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import requests
from dicomweb_client.web import DICOMwebClient
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydicom import dcmread
from pydicom.dataset import Dataset

from fundoscope.errors import FundoscopeError, UsageError
from fundoscope.imaging.dicom_header import PHOTOGRAPH_CLASSES
from fundoscope.server.dicom import troubles
from fundoscope.server.dicom.settings import check_url

_STEP = 1 << 16
_LONGEST_BODY = 1 << 30  # bytes that are sent with their length told: not every PACS takes chunks
_LONGEST_LIST = 64 << 20  # bytes of an answer to a search
_CONNECT_SECONDS = 10.0
_MOST_AT_ONCE = 1000  # rows of an answer to a search, before the next ones are asked for
_LEAST_PAGE = 20  # rows: fewer are all there are; a server may give fewer at once than it was asked for
_MOST_ROWS = 200_000  # of one search, however often it goes on
_DUPLICATE = 0x0111


class DicomwebError(FundoscopeError):
    """A DICOMweb server cannot be reached, or gave an answer that is none; the message says what to do."""


class UnusableAnswerError(DicomwebError):
    """What the server gave is too large, or no DICOM: asking again would give the same."""


class DicomwebServer(BaseModel):
    """A DICOMweb server: its address, who we are there, and PEM files for TLS.

    `authority` holds the certificates that are believed (None: those of the system); `certificate` and `key` show who we are.
    `seconds` is how long it may be silent, and `file_bytes` how large one photograph may be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(check_url)]
    user: str = ""
    password: str = ""
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    seconds: float = 60.0
    file_bytes: int = 64 << 20

    def __str__(self) -> str:
        return self.url

    @classmethod
    def choose(cls, url: str, user: str, password_file: Path | None, **files: Path | None) -> DicomwebServer:
        """The server of a call; raises `UsageError` for an address that is none, and for files that cannot be used."""
        for name, file in {"password-file": password_file, **files}.items():
            if file is not None and not file.is_file():
                raise UsageError(f"--{name} {file}: there is no such file. Name the file, or leave the option out.")
        if bool(files.get("certificate")) != bool(files.get("key")):
            raise UsageError("--certificate: a certificate and its key go together. Give both or none.")
        if bool(user) != bool(password_file):
            raise UsageError("--user: a user and the file of the password go together. Give both or none.")
        try:
            password = password_file.read_text(encoding="utf-8").splitlines()[0] if password_file else ""
            return cls.model_validate({"url": url, "user": user, "password": password, **files})
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise UsageError(
                f"--password-file {password_file}: cannot be read. Write the password into its first line."
            ) from error
        except ValidationError as error:
            raise UsageError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """A photograph that a search found: its UIDs, and the class as far as the answer tells it."""

    study: str
    series: str
    sop_instance: str
    sop_class: str = ""

    @property
    def is_named(self) -> bool:
        """Whether study and instance are UIDs, which can be names of files."""
        return all(
            re.fullmatch(r"[0-9]+(\.[0-9]+)*", uid) and len(uid) <= 64 for uid in (self.study, self.sop_instance)
        )


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study that a search found; `instances` is how many objects it holds, None where the answer does not tell."""

    study: str
    instances: int | None


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """What became of an object that was sent: `stored`, or `refused` with the reason in `said`."""

    sop_instance: str
    result: Literal["stored", "refused"]
    said: str = ""


class _LimitedSession(requests.Session):
    """A session whose answers are read as they come, up to a number of bytes and within a time."""

    def __init__(self, server: DicomwebServer) -> None:
        super().__init__()
        self.trust_env = False
        self.most_bytes = _LONGEST_LIST
        self._seconds = server.seconds
        self.auth = (server.user, server.password) if server.user else None
        self.verify = str(server.authority) if server.authority else True
        self.cert = (str(server.certificate), str(server.key)) if server.certificate and server.key else None

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """The answer with its content, as `requests` gives it."""
        response = super().send(request, **{**options, "stream": True})
        until, content = time.monotonic() + 10 * self._seconds, bytearray()
        for part in response.iter_content(_STEP):
            content += part
            if len(content) > self.most_bytes:
                response.close()
                raise UnusableAnswerError(troubles.TOO_LARGE.format(most=self.most_bytes >> 20))
            if time.monotonic() > until:
                response.close()
                raise DicomwebError(troubles.TOO_SLOW.format(seconds=round(10 * self._seconds)))
        response._content = bytes(content)  # what `requests` keeps of an answer that was read whole
        return response


class DicomwebConnection:
    """Questions to one server. Every method raises `DicomwebError` where there is no answer that can be used."""

    def __init__(self, server: DicomwebServer) -> None:
        self._server = server
        self._session = _LimitedSession(server)
        self._client = DICOMwebClient(
            server.url,
            self._session,
            permissive_uid=True,
            timeout=(min(_CONNECT_SECONDS, server.seconds), server.seconds),
        )
        self._client.set_http_retry_params(retry=False)  # who calls waits, and tries again

    def try_out(self) -> int:
        """Ask for one study, whichever; how many came."""
        with self._asking():
            return len(self._client.search_for_studies(limit=1))

    def find_studies(self, first: date, last: date, modality: str) -> list[FoundStudy]:
        """The studies from one day to another that hold a modality."""
        filters = {"StudyDate": f"{first:%Y%m%d}-{last:%Y%m%d}", "ModalitiesInStudy": modality}
        found = []
        for row in self._search_all(self._client.search_for_studies, filters, ["NumberOfStudyRelatedInstances"]):
            count = row.get("NumberOfStudyRelatedInstances")
            if uid := str(row.get("StudyInstanceUID", "")):
                found.append(FoundStudy(uid, None if count is None else int(count)))
        return found

    def find_photographs(self, study: str, modality: str) -> list[FoundInstance]:
        """The objects of a study's series of a modality that may be photographs of an eye, as far as their class is told."""
        found = []
        for series in self._search_all(self._client.search_for_series, {"Modality": modality}, [], study):
            uid = str(series.get("SeriesInstanceUID", ""))
            for row in self._search_all(self._client.search_for_instances, {}, [], study, uid) if uid else ():
                one = FoundInstance(study, uid, str(row.get("SOPInstanceUID", "")), str(row.get("SOPClassUID", "")))
                if one.sop_instance and (not one.sop_class or one.sop_class in PHOTOGRAPH_CLASSES):
                    found.append(one)
        return found

    def fetch(self, one: FoundInstance) -> bytes:
        """The file of a photograph, in the transfer syntax in which it is kept there."""
        self._session.most_bytes = self._server.file_bytes + _STEP
        try:
            with self._asking():
                found = self._client.retrieve_instance(
                    one.study, one.series, one.sop_instance, media_types=(("application/dicom", "*"),)
                )
        finally:
            self._session.most_bytes = _LONGEST_LIST
        buffer = io.BytesIO()
        found.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    def store(self, study: str, file: bytes) -> StoreOutcome:
        """Send an object to its study, and look at what is said of it: an answer 200 alone is no success (PS3.18, 10.5.3)."""
        sent = dcmread(io.BytesIO(file))
        uid = str(sent.SOPInstanceUID)
        try:
            with self._asking():
                told = self._client.store_instances([sent], study)
        except _RefusedError as error:
            try:
                told = Dataset.from_json(error.response.json())
            except Exception:  # noqa: BLE001 - there is no list of failures in it: the status is the reason
                return StoreOutcome(uid, "refused", str(error))
        return read_outcome(told, uid)

    def _search_all(
        self, search: Any, filters: dict[str, str], fields: Sequence[str], *within: str
    ) -> Iterator[Dataset]:
        """All rows of a search, page after page; a server that gives the same page for ever is left."""
        offset, before = 0, None
        while offset < _MOST_ROWS:
            with self._asking():
                rows = search(
                    *within, limit=_MOST_AT_ONCE, offset=offset, search_filters=filters, fields=list(fields) or None
                )
                found = [Dataset.from_json(row) for row in rows]
            if not found or rows == before:
                return
            yield from found
            if len(found) < _LEAST_PAGE:
                return
            offset, before = offset + len(found), rows

    @contextmanager
    def _asking(self) -> Generator[None]:
        """Turn whatever goes wrong with a question into one kind of error, which names the server and says what to do."""
        try:
            yield
        except DicomwebError as error:
            raise type(error)(self._told(str(error))) from error
        except requests.HTTPError as error:
            raise self._describe_status(error) from error
        except requests.exceptions.SSLError as error:
            raise DicomwebError(self._told(troubles.NOT_BELIEVED)) from error
        except requests.Timeout as error:
            raise DicomwebError(self._told(troubles.NO_ANSWER)) from error
        except requests.RequestException as error:
            raise DicomwebError(self._told(troubles.NOBODY)) from error
        except OSError as error:
            raise DicomwebError(self._told(troubles.NO_FILE.format(reason=error))) from error
        except Exception as error:  # whatever parsers make of a foreign answer
            raise UnusableAnswerError(self._told(troubles.NOT_READ.format(reason=type(error).__name__))) from error

    def _describe_status(self, error: requests.HTTPError) -> DicomwebError:
        status = error.response.status_code if error.response is not None else 0
        told = troubles.STATUSES.get(status, troubles.STATUSES[0]).format(status=status)
        if error.response is not None and status in (400, 409, 413, 415, 422):
            return _RefusedError(self._told(told), error.response)
        return DicomwebError(self._told(told))

    def _told(self, what: str) -> str:
        return f"{self._server}: {what}"


class _RefusedError(DicomwebError):
    """The server understood the question, and does not take this object."""

    def __init__(self, message: str, response: requests.Response) -> None:
        super().__init__(message)
        self.response = response


def read_outcome(told: Dataset, sop_instance: str) -> StoreOutcome:
    """What an answer to STOW says of one object: it is stored only where it is named, and does not stand among the failed ones."""
    for item in told.get("FailedSOPSequence") or ():
        if str(item.get("ReferencedSOPInstanceUID", "")) in (sop_instance, ""):
            reason = int(item.get("FailureReason") or 0)
            code = f"{reason:04X}"
            known = (troubles.FAILURES.get(digits) for digits in (code, code[:2], code[:1], ""))
            words = next(filter(None, known))
            return StoreOutcome(sop_instance, "stored" if reason == _DUPLICATE else "refused", f"{words} (0x{code})")
    named = {str(item.get("ReferencedSOPInstanceUID", "")) for item in told.get("ReferencedSOPSequence") or ()}
    if sop_instance not in named:
        return StoreOutcome(sop_instance, "refused", troubles.NOT_NAMED)
    return StoreOutcome(sop_instance, "stored")
