"""`fundoscope dicom`: DICOM photographs at the desk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fundoscope.cli.options import Quiet

if TYPE_CHECKING:
    from fundoscope.server.dicom.settings import DimsePeer

app = typer.Typer(
    help="DICOM photographs: taking out what tells whose they are; trying out the way to a PACS.", no_args_is_help=True
)
Peer = Annotated[str, typer.Argument(metavar="TITLE@HOST:PORT", help="Whom to call, such as ORTHANC@127.0.0.1:4242.")]
Calling = Annotated[str, typer.Option(help="What we call ourselves; a PACS often wants to know it beforehand.")]
Secured = Annotated[bool, typer.Option("--tls", help="By TLS, with the certificates that the system believes.")]
Authority = Annotated[Path | None, typer.Option(help="By TLS: certificates that are believed, PEM.")]
Certificate = Annotated[Path | None, typer.Option(help="By TLS: our certificate, PEM, with --key.")]
Key = Annotated[Path | None, typer.Option(help="By TLS: the private key of the certificate, PEM.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="Address or network that may call us, such as 10.0.0.0/24; may be repeated. Else this computer."),
]
OUR_TITLE = "FUNDOSCOPE"
ANY_HOST, LOOPBACK = "0.0.0.0", "127.0.0.1"


@app.callback()
def _dicom() -> None:
    """DICOM photographs: taking out what tells whose they are; trying out the way to a PACS."""


@app.command()
def deidentify(
    photos: Annotated[list[str], typer.Argument(help="DICOM files, folders, globs, a DICOMDIR, or - for a list.")],
    out: Annotated[Path, typer.Option(help="Folder for photographs/ and deidentified.csv: what may be given away.")],
    keep: Annotated[
        str,
        typer.Option(
            help="Comma-separated, what stays: dates or shifted-dates, characteristics (sex, age), device, institution, uids."
        ),
    ] = "",
    key: Annotated[
        Path | None,
        typer.Option(
            help="File with the key of pseudonyms, made where it is missing: later files fit to earlier ones."
        ),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="CSV that leads from the originals to their copies; never inside --out.")
    ] = None,
    hold: Annotated[
        bool,
        typer.Option("--hold", help="Keep back every file in which there may be text, instead of blacking it out."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write DICOM photographs without what tells whose they are: PS3.15's basic profile, text in the picture blacked out.

    Look at the copies before you give them away: no program finds every text in a picture.

    Exit codes: 0 all were written, 1 some were held back or could not be read, 2 the call is wrong, 4 the copies could not
    be written.
    """
    from fundoscope.cli.console import Console
    from fundoscope.errors import need

    need("pydicom", what="fundoscope dicom", extra="dicom")
    from fundoscope.dicom.deidentified_folder import ANSWER, HELD, PHOTOGRAPHS, WRITTEN, deidentify_files, read_key
    from fundoscope.dicom.deidentify import Deidentification
    from fundoscope.outputs import refuse_overwriting
    from fundoscope.runs import walk

    chosen = [name.strip() for name in keep.split(",") if name.strip()]
    Deidentification.choose(b"", chosen)
    found = walk(photos)
    files = list(dict.fromkeys(mention.file for mention in found.mentions))
    refuse_overwriting([*found.inputs, *filter(None, (key,))], [out / ANSWER], [out / PHOTOGRAPHS])
    how = Deidentification.choose(read_key(key), chosen, hold)
    console = Console(quiet)
    console.header(photographs=len(files), kept=", ".join(chosen) or "nothing beyond the basic profile", out=out)
    done = deidentify_files(files, out, how, table, console)
    for one in done:
        if one.status != WRITTEN:
            print(f"{one.original}: {one.status}: {one.reason}")
    counts = {status: sum(one.status == status for one in done) for status in (WRITTEN, HELD, "failed")}
    console.say("  ".join(f"{status}: {count}" for status, count in counts.items()))
    console.say(f"with text or marks blacked out: {sum(bool(one.blacked_out) for one in done)}")
    if found.skipped:
        console.say(f"not among them: {found.skipped.describe()}")
    console.say(f"look at each before it is given away: {out}")
    raise typer.Exit(1 if counts[WRITTEN] < len(done) else 0)


@app.command()
def echo(
    peer: Peer,
    calling: Calling = OUR_TITLE,
    tls: Secured = False,
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
) -> None:
    """Ask a PACS or a camera whether it hears us (C-ECHO).

    Exit codes: 0 it answered, 1 it did not, and why, 2 the call is wrong.
    """
    called = _peer(peer, calling, tls, authority, certificate, key)
    from fundoscope.errors import printable
    from fundoscope.server.dicom.peers import send_echo

    program = send_echo(called)
    print(f"{called} answers{f': {printable(program)}' if program else ''}")


@app.command()
def send(
    files: Annotated[
        list[Path], typer.Argument(help="DICOM files, and folders of them: photographs, answers, anything.")
    ],
    to: Annotated[str, typer.Option(metavar="TITLE@HOST:PORT", help="Where to, such as ORTHANC@127.0.0.1:4242.")],
    calling: Calling = OUR_TITLE,
    commit: Annotated[
        bool,
        typer.Option("--commit", help="Ask it to answer for what it took (storage commitment), and wait for that."),
    ] = False,
    wait: Annotated[float, typer.Option(help="Seconds that are waited for the answer to --commit.", min=0)] = 30.0,
    port: Annotated[
        int | None,
        typer.Option(help="Port on which we wait for that answer: most PACS call back.", min=1, max=65535),
    ] = None,
    allow: Allow = None,
    tls: Secured = False,
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
    quiet: Quiet = False,
) -> None:
    """Send DICOM files to a PACS (C-STORE), all by one association. A line for each that was not stored, or with a warning.

    Exit codes: 0 all are stored (and committed, where --commit asks for it), 1 some are not, each with the reason, 2 the call is
    wrong.
    """
    destination = _peer(to, calling, tls, authority, certificate, key, commitment=commit, commitment_seconds=wait)
    from contextlib import nullcontext

    from fundoscope.cli.console import Console
    from fundoscope.errors import UsageError
    from fundoscope.server.dicom.commitment import HeardReports
    from fundoscope.server.dicom.receiver import Receiver, refuse_all
    from fundoscope.server.dicom.sender import send_by_dimse
    from fundoscope.server.dicom.settings import choose_receiver

    if port is not None and not commit:
        raise UsageError("--port: waits for the answer to --commit. Give both, or leave it out.")
    chosen = _dicom_files(files)
    console, reports = Console(quiet), HeardReports()
    console.header(files=len(chosen), to=destination)
    hearing = nullcontext()
    if port is not None:
        here = {"title": calling, "host": ANY_HOST if allow else LOOPBACK, "port": port, "allow": allow}
        hearing = Receiver(choose_receiver(here), refuse_all, Path(), reports)
    with hearing, console.stages() as report:
        done = send_by_dimse(destination, chosen, reports, lambda count: report("files", count, len(chosen)))
    good = [one for one in done if one.result == "stored" and one.commitment in ("", "committed")]
    for one in done:
        if one not in good or one.warning:
            later = "; no report on commitment yet" if one.commitment == "asked" else ""
            print(f"{one.path}: {one.said}{later}")
    console.say(f"stored: {sum(one.result == 'stored' for one in done)} of {len(done)}")
    if commit:
        console.say(f"committed: {sum(one.commitment == 'committed' for one in done)} of {len(done)}")
    raise typer.Exit(0 if len(good) == len(done) else 1)


@app.command()
def listen(
    into: Annotated[Path, typer.Option(help="Folder for what is received, a file an object, named by its UID.")],
    host: Annotated[str, typer.Option(help="Address to listen on; this computer's own unless --allow is given.")] = "",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for a free one.", min=0, max=65535)] = 11112,
    title: Annotated[str, typer.Option(help="Our title, by which others call us.")] = OUR_TITLE,
    allow: Allow = None,
    caller: Annotated[
        list[str] | None, typer.Option(help="Title that may call us; may be repeated. It protects nothing.")
    ] = None,
    objects: Annotated[int, typer.Option(help="End after so many objects; 0: with Ctrl-C.", min=0)] = 0,
    authority: Annotated[
        Path | None, typer.Option(help="By TLS: callers must show a certificate of these, PEM.")
    ] = None,
    certificate: Certificate = None,
    key: Key = None,
) -> None:
    """Receive DICOM photographs into a folder (C-ECHO, C-STORE), to try a camera or a PACS out. A line for each on standard output.

    What is in the folder stays. An object is answered for when it is safely on the disk. The reading room has a receiver of its own.

    Exit codes: 0 it was ended by Ctrl-C or after --objects, 2 the call is wrong.
    """
    from fundoscope.errors import UsageError, need, printable

    need("pydicom", "pynetdicom", what="fundoscope dicom", extra="dicom")
    import threading

    from fundoscope.server.dicom.receiver import FolderKeeper, ReceivedObject, Receiver
    from fundoscope.server.dicom.settings import choose_receiver

    secured = {"authority": authority, "certificate": certificate, "key": key}
    values = {
        "title": title, "host": host or (ANY_HOST if allow else LOOPBACK), "port": port, "allow": allow, "callers": caller,
        "tls": secured if any(each is not None for each in secured.values()) else None,
    }  # fmt: skip
    settings = choose_receiver(values)
    if into.exists() and not into.is_dir():
        raise UsageError(f"--into {into}: is a file. Name a folder.")
    into.mkdir(parents=True, exist_ok=True)
    ended, count = threading.Event(), 0

    def tell(place: Path, received: ReceivedObject, is_new: bool) -> None:
        nonlocal count
        count += 1
        facts = [received.header.eye, received.header.view, *received.header.doubts]
        print(f"{place}: from {printable(received.caller)} at {received.address}{'' if is_new else ', there already'}"
              f"{''.join(f'; {printable(each)}' for each in facts if each)}", flush=True)  # fmt: skip
        if count == objects:
            ended.set()

    with Receiver(settings, FolderKeeper(into, tell), into) as receiver:
        print(f"{title} listens at {settings.host}:{receiver.port}. It ends with Ctrl-C.", flush=True)
        try:
            ended.wait()
        except KeyboardInterrupt:
            print(f"received: {count}", flush=True)


def _peer(
    address: str, calling: str, tls: bool, authority: Path | None, certificate: Path | None, key: Path | None, **more: Any
) -> DimsePeer:  # fmt: skip
    """The peer that a call names; raises `UsageError` for what is none, and where packages are missing."""
    from fundoscope.errors import need

    need("pydicom", "pynetdicom", what="fundoscope dicom", extra="dicom")
    from fundoscope.server.dicom.settings import DimsePeer

    secured = tls or any(each is not None for each in (authority, certificate, key))
    files = {"authority": authority, "certificate": certificate, "key": key} if secured else None
    return DimsePeer.parse(address, calling=calling, tls=files, **more)


def _dicom_files(named: list[Path]) -> list[Path]:
    """The files that were named, and those with a DICOM preamble in folders that were; raises `UsageError` where there are none."""
    from fundoscope.errors import UsageError

    found: list[Path] = []
    for each in named:
        if each.is_dir():
            found += [path for path in sorted(each.rglob("*")) if path.is_file() and _has_preamble(path)]
        elif each.exists():
            found.append(each)
        else:
            raise UsageError(f"{each}: there is no such file. Name DICOM files, or folders of them.")
    if not found:
        raise UsageError(f"{named[0]}: holds no DICOM file. Name DICOM files, or folders of them.")
    return list(dict.fromkeys(found))


def _has_preamble(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


@app.command()
def fetch(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="DICOMweb of a PACS, such as https://pacs.example.org/dicom-web.")
    ],
    into: Annotated[Path, typer.Option(help="Folder for the photographs, STUDY/INSTANCE.dcm; what lies there stays.")],
    days: Annotated[int, typer.Option(help="How many days back studies are searched.", min=1, max=36500)] = 2,
    modality: Annotated[
        list[str] | None, typer.Option(help="Of the series that are searched; may be repeated. OP unless told.")
    ] = None,
    user: Annotated[str, typer.Option(help="Who we are there.")] = "",
    password_file: Annotated[Path | None, typer.Option(help="File whose first line is the password of --user.")] = None,
    authority: Authority = None,
    certificate: Certificate = None,
    key: Key = None,
    quiet: Quiet = False,
) -> None:
    """Fetch photographs of the last days from a PACS by DICOMweb (QIDO, WADO). Those that lie in the folder are not fetched again.

    Exit codes: 0 all that were found are there, 1 some are not, each with the reason, or the PACS does not answer, 2 the call is wrong,
    4 a photograph could not be written.
    """
    from datetime import date, timedelta

    from fundoscope.cli.console import Console
    from fundoscope.errors import need
    from fundoscope.outputs import make_folder, written_whole

    need("pydicom", "dicomweb_client", what="fundoscope dicom", extra="dicom")
    from fundoscope.server.dicom.web import DicomwebConnection, DicomwebError, DicomwebServer, FoundInstance

    files = {"authority": authority, "certificate": certificate, "key": key}
    server = DicomwebServer.choose(url, user, password_file, **files)
    console, connection, today = Console(quiet), DicomwebConnection(server), date.today()
    found: dict[str, FoundInstance] = {}
    for each in modality or ["OP"]:
        for study in connection.find_studies(today - timedelta(days=days - 1), today + timedelta(days=1), each):
            found |= {one.sop_instance: one for one in connection.find_photographs(study.study, each) if one.is_named}
    make_folder(into)
    wanted = {one: into / one.study / f"{one.sop_instance}.dcm" for one in found.values()}
    new = {one: path for one, path in wanted.items() if not path.exists()}
    console.header(found=len(found), new=len(new), into=into)
    lost = 0
    for one, path in console.follow(new.items(), len(new), "photographs"):
        try:
            content = connection.fetch(one)
        except DicomwebError as error:
            print(f"{one.sop_instance}: {error}")
            lost += 1
            continue
        make_folder(path.parent)
        with written_whole(path) as beside:
            beside.write_bytes(content)
    console.say(f"fetched: {len(new) - lost} of {len(new)}")
    raise typer.Exit(1 if lost else 0)
