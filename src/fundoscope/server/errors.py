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


class ServerError(FundoscopeError):
    """Base of what a service refuses; `status` is the HTTP status."""

    status = 400
    title = "The request cannot be done"


class NotSignedInError(ServerError):
    """No session, or one that is locked or has expired."""

    status = 401
    title = "Sign in first"


class NotAllowedError(ServerError):
    """The caller's role may not do this."""

    status = 403
    title = "Not allowed"


class NotFoundError(ServerError):
    """Nothing of that number, or something of a site that the caller does not belong to."""

    status = 404
    title = "Not found"

    def __init__(self, noun: str, number: object) -> None:
        super().__init__(f"There is no {noun} {number} here. Look for it in the worklist.")


class ConflictError(ServerError):
    """The state of things does not allow it."""

    status = 409
    title = "This cannot be done now"


class GoneError(ServerError):
    """A link that was used, or is too old."""

    status = 410
    title = "Not valid any more"


class TooLargeError(ServerError):
    """The request holds more bytes than the limits allow."""

    status = 413
    title = "Too large"


class MisdirectedError(ServerError):
    """The request names a host that is not one of this room's."""

    status = 421
    title = "Wrong host"


class InvalidError(ServerError):
    """A value cannot be taken; `field` names it, blank where it is about the whole."""

    status = 422
    title = "A value cannot be taken"

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class BusyError(ServerError):
    """A queue or a limit is full; try again after `retry_after` seconds."""

    status = 503
    title = "Too busy"

    def __init__(self, message: str, retry_after: int = 5, status: int = 503) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status
