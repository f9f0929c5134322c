"""What administrators see and change: accounts, sites with their rules, the audit log. Pages under `/settings`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from fundoscope.guidelines import shipped_guidelines
from fundoscope.languages import gettext as _
from fundoscope.server import pages
from fundoscope.server.errors import InvalidError
from fundoscope.server.models import VIEWS, User
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.room import Room
from fundoscope.server.routes.access import TheCaller, TheRoom
from fundoscope.server.routes.v1 import RowNumber
from fundoscope.server.services import accounts, audit
from fundoscope.server.services.inputs import check_input

router = APIRouter(include_in_schema=False, prefix="/settings")

#: Lines of the audit log on a page.
LINES = 100


async def read_account(request: Request) -> dict[str, Any]:
    """The form of an account; what is ticked several times is a list."""
    form = await request.form()
    names = ("name", "full_name", "role", "language", "subject")
    given: dict[str, Any] = {name: str(form.get(name, "")) for name in names}
    return given | {"sites": [str(one) for one in form.getlist("sites")], "active": "active" in form}


async def read_site(request: Request) -> dict[str, Any]:
    """The form of a site; shares are typed in percent."""
    form = await request.form()
    given: dict[str, Any] = {name: str(form.get(name, "")) for name in ("name", "guideline")}
    for name in ("second_reading_share", "repeat_share"):
        try:
            given[name] = float(str(form.get(name, ""))) / 100
        except ValueError:
            given[name] = str(form.get(name, ""))
    given["required_views"] = [str(one) for one in form.getlist("required_views")]
    return given | {"hide_answer": "hide_answer" in form, "active": "active" in form}


AccountForm = Annotated[dict[str, Any], Depends(read_account)]
SiteForm = Annotated[dict[str, Any], Depends(read_site)]


@router.get("")
def show_settings(request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """Accounts and sites."""
    caller.require(Role.ADMINISTRATOR)
    with room.database.reading() as session:
        found = {"accounts": accounts.list_accounts(session, caller), "sites": accounts.list_sites(session, caller)}
    return pages.render(request, caller, "settings.html.j2", **found)


# --- accounts


@router.get("/accounts/new")
def show_new_account(request: Request, room: TheRoom, caller: TheCaller) -> Response:
    """The form of an invitation."""
    caller.require(Role.ADMINISTRATOR)
    with room.database.reading() as session:
        sites = [site for site in accounts.list_sites(session, caller) if site.active]
    blank = {"name": "", "full_name": "", "role": Role.TECHNICIAN, "language": "en", "active": True, "subject": ""}
    chosen = [sites[0].id] if len(sites) == 1 else []
    return _show_account(request, room, caller, None, blank | {"sites": chosen})


@router.post("/accounts/new")
def invite_account(request: Request, room: TheRoom, caller: TheCaller, form: AccountForm) -> Response:
    """Make the account, and show the link that its owner opens."""
    try:
        values = check_input(accounts.NewAccount, form)
        with room.database.transaction() as session:
            account, token = accounts.invite_account(session, caller, values)
    except InvalidError as error:
        return _show_account(request, room, caller, None, form, {error.field: str(error)})
    return _show_link(request, caller, account, token)


@router.get("/accounts/{number}")
def show_account(request: Request, room: TheRoom, caller: TheCaller, number: RowNumber) -> Response:
    """The form of an account."""
    caller.require(Role.ADMINISTRATOR)
    with room.database.reading() as session:
        account = accounts.find_account(session, caller, number)
    given = {name: getattr(account, name) for name in ("name", "full_name", "role", "language", "active")}
    sites = [site.id for site in account.sites]
    return _show_account(request, room, caller, account, given | {"subject": account.subject or "", "sites": sites})


@router.post("/accounts/{number}")
def change_account(
    request: Request, room: TheRoom, caller: TheCaller, number: RowNumber, form: AccountForm
) -> Response:
    """Change an account."""
    try:
        values = check_input(accounts.AccountValues, {name: value for name, value in form.items() if name != "name"})
        with room.database.transaction() as session:
            accounts.change_account(session, caller, number, values)
    except InvalidError as error:
        with room.database.reading() as session:
            account = accounts.find_account(session, caller, number)
        return _show_account(request, room, caller, account, form, {error.field: str(error)})
    return pages.redirect(request, "/settings", _("The account was changed."))


@router.post("/accounts/{number}/link")
def renew_link(request: Request, room: TheRoom, caller: TheCaller, number: RowNumber) -> Response:
    """A new link for a new password, shown once."""
    with room.database.transaction() as session:
        account, token = accounts.renew_link(session, caller, number)
    return _show_link(request, caller, account, token)


# --- sites


@router.get("/sites/new")
def show_new_site(request: Request, caller: TheCaller) -> Response:
    """The form of a new site."""
    caller.require(Role.ADMINISTRATOR)
    return _show_site(request, caller, 0, accounts.SiteValues(name="-").model_dump() | {"name": ""})


@router.get("/sites/{number}")
def show_site(request: Request, room: TheRoom, caller: TheCaller, number: RowNumber) -> Response:
    """The form of a site."""
    caller.require(Role.ADMINISTRATOR)
    with room.database.reading() as session:
        site = accounts.find_site(session, caller, number)
    return _show_site(request, caller, number, {name: getattr(site, name) for name in accounts.SiteValues.model_fields})


@router.post("/sites/new")
def add_site(request: Request, room: TheRoom, caller: TheCaller, form: SiteForm) -> Response:
    """Add a site."""
    return _save_site(request, room, caller, 0, form)


@router.post("/sites/{number}")
def change_site(request: Request, room: TheRoom, caller: TheCaller, number: RowNumber, form: SiteForm) -> Response:
    """Change the rules of a site."""
    return _save_site(request, room, caller, number, form)


# --- the log


@router.get("/audit")
def show_audit(
    request: Request,
    room: TheRoom,
    caller: TheCaller,
    user: Annotated[str, Query(max_length=10)] = "",
    action: Annotated[str, Query(max_length=50)] = "",
    subject: Annotated[str, Query(max_length=20)] = "",
    number: Annotated[str, Query(max_length=10)] = "",
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> Response:
    """Who did what, the newest first."""
    numbers = [int(text) if text.isdecimal() and int(text) < 2**31 else None for text in (user, number)]
    with room.database.reading() as session:
        lines = audit.find_entries(session, caller, before, LINES + 1, numbers[0], action, subject, numbers[1])
        people = accounts.list_accounts(session, caller)
        last = audit.head(session)
    return pages.render(
        request, caller, "audit.html.j2", lines=lines[:LINES], more=lines[LINES - 1].id if len(lines) > LINES else None,
        people={one.id: one for one in people}, choices=[(one.id, one.name) for one in people], head=last,
        chosen={"user": user, "action": action, "subject": subject, "number": number},
    )  # fmt: skip


# --- inside


def _save_site(request: Request, room: Room, caller: Caller, number: int, form: dict[str, Any]) -> Response:
    try:
        values = check_input(accounts.SiteValues, form)
        with room.database.transaction() as session:
            if number:
                accounts.change_site(session, caller, number, values)
            else:
                accounts.add_site(session, caller, values)
    except InvalidError as error:
        return _show_site(request, caller, number, form, {error.field: str(error)})
    return pages.redirect(request, "/settings", _("The site was saved."))


def _show_account(
    request: Request, room: Room, caller: Caller, account: User | None, given: dict[str, Any],
    faults: dict[str, str] | None = None,
) -> Response:  # fmt: skip
    with room.database.reading() as session:
        sites = accounts.list_sites(session, caller)
    return pages.render(
        request, caller, "settings_account.html.j2", 422 if faults else 200, account=account, given=given,
        faults=faults or {}, sites=sites, roles=list(Role), single_sign_on=room.settings.single_sign_on,
    )  # fmt: skip


def _show_link(request: Request, caller: Caller, account: User, token: str) -> Response:
    address = f"{request.url.scheme}://{request.url.netloc}/link/{token}"
    return pages.render(request, caller, "settings_link.html.j2", account=account, address=address)


def _show_site(
    request: Request, caller: Caller, number: int, given: dict[str, Any], faults: dict[str, str] | None = None
) -> Response:
    return pages.render(
        request, caller, "settings_site.html.j2", 422 if faults else 200, number=number, given=given, faults=faults or {},
        guidelines=shipped_guidelines(), views=VIEWS,
    )  # fmt: skip
