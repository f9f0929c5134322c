"""What a service refuses, each with the HTTP status that tells it; the message names the input and ends with what to do.

ServerError (a FundoscopeError)
├── NotSignedInError   401  no session, or an expired one
├── NotAllowedError    403  the role may not do this
├── NotFoundError      404  no such thing, or one of another site (the answer is the same)
├── ConflictError      409  the state does not allow it: a signed reading, a name that is taken
├── GoneError          410  a link that was used, or is too old
├── TooLargeError      413  more bytes than the limits of the settings allow
├── MisdirectedError   421  the request names a host that is not ours
├── InvalidError       422  a value cannot be taken; `field` names it
└── BusyError          503  the queue or a limit is full; `retry_after` in seconds (429 where one caller asks too often)
"""

from __future__ import annotations

from fundoscope.errors import FundoscopeError
from fundoscope.languages import gettext as _


class ServerError(FundoscopeError):
    """Base of what a service refuses; `status` is the HTTP status, whose meaning `title_of` tells."""

    status = 400


class NotSignedInError(ServerError):
    """No session, or one that is locked or has expired."""

    status = 401


class NotAllowedError(ServerError):
    """The caller's role may not do this."""

    status = 403


class NotFoundError(ServerError):
    """Nothing of that number, or something of a site that the caller does not belong to."""

    status = 404

    def __init__(self, noun: str, number: object) -> None:
        message = _("There is no {noun} {number} here. Look for it in the worklist.")
        super().__init__(message.format(noun=_name(noun), number=number))


class ConflictError(ServerError):
    """The state of things does not allow it."""

    status = 409


class GoneError(ServerError):
    """A link that was used, or is too old."""

    status = 410


class TooLargeError(ServerError):
    """The request holds more bytes than the limits allow."""

    status = 413


class MisdirectedError(ServerError):
    """The request names a host that is not one of this room's."""

    status = 421


class InvalidError(ServerError):
    """A value cannot be taken; `field` names it, blank where it is about the whole."""

    status = 422

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class BusyError(ServerError):
    """A queue or a limit is full; try again after `retry_after` seconds."""

    status = 503

    def __init__(self, message: str, retry_after: int = 5, status: int = 503) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status


def title_of(status: int) -> str:
    """What an HTTP status means, in the language spoken now."""
    titles = {
        401: _("Sign in first"), 403: _("Not allowed"), 404: _("Not found"), 405: _("Not possible here"),
        409: _("This cannot be done now"), 410: _("Not valid any more"), 413: _("Too large"), 421: _("Wrong host"),
        422: _("A value cannot be taken"), 429: _("Too busy"), 500: _("The room failed"), 502: _("The single sign-on failed"),
        503: _("Too busy"),
    }  # fmt: skip
    return titles.get(status, _("The request cannot be done"))


def _name(noun: str) -> str:
    names = {
        "account": _("account"), "correction": _("correction"), "destination": _("destination"), "exam": _("exam"), "grading": _("grading"), "job": _("job"),
        "patient": _("patient"), "photograph": _("photograph"), "picture": _("picture"), "reading": _("reading"),
        "reading task": _("reading task"), "report": _("report"), "sending": _("answer on its way"), "site": _("site"), "source": _("source"), "token": _("token"),
    }  # fmt: skip
    return names.get(noun, noun)
