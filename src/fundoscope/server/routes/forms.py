"""Forms of pages: what was typed, checked by the same models as `/v1`, and shown again with its errors where it cannot be taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from fundoscope.server.errors import InvalidError, ServerError
from fundoscope.server.services.inputs import describe_faults

M = TypeVar("M", bound=BaseModel)
_MOST_FIELDS = 100


@dataclass
class TypedForm:
    """What somebody typed into a form, and what is wrong with it: a sentence for each field, "" for the whole.

    `shown` are fields that are shown again and checked elsewhere.
    """

    values: dict[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def check(self, model: type[M], **more: object) -> M | None:
        """The model of what was typed; None where something cannot be taken, which stands in `errors` then."""
        try:
            return model.model_validate({**self.values, **more})
        except ValidationError as error:
            self.errors |= describe_faults(error)
            return None

    def add_error(self, error: ServerError) -> int:
        """Keep what a service refused beside its field, or above the form; the status of the answer."""
        name = error.field if isinstance(error, InvalidError) else ""
        self.errors[name] = str(error)
        return error.status

    def value(self, name: str) -> str:
        """What was typed into a field; blank where nothing was."""
        return self.shown.get(name, self.values.get(name, ""))

    def error(self, name: str) -> str:
        """What is wrong with a field; blank where nothing is."""
        return self.errors.get(name, "")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The errors for the box above the form; those of fields that the form does not have name no field."""
        return list(self.errors.items())


async def read_form(request: Request) -> TypedForm:
    """The fields of a form as text; files are not taken."""
    async with request.form(max_files=0, max_fields=_MOST_FIELDS) as typed:
        return TypedForm({name: value for name, value in typed.items() if isinstance(value, str) and name != "csrf"})


TheForm = Annotated[TypedForm, Depends(read_form)]
