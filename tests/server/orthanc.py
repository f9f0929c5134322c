"""Orthanc, a real PACS, for the tests: on loopback with its own authentication, DICOMweb and worklists enabled, its data in a folder.

Debian's packages `orthanc` and `orthanc-dicomweb` are enough. Version 1.10 listens on every address whatever it is told; so its HTTP
asks for a password, is closed to other computers by `RemoteAccessAllowed`, and its DICOM port takes known titles only, from loopback.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

import requests
from postgres import find_port

PLUGINS = Path("/usr/share/orthanc/plugins")
NEEDED = ("libOrthancDicomWeb.so", "libModalityWorklists.so")
#: Orthanc's key of the class of each object, as `/instances` gives it.
_START_SECONDS = 30


def is_installed():
    return shutil.which("Orthanc") is not None and all((PLUGINS / name).exists() for name in NEEDED)


class Orthanc:
    """One server, which can be stopped, killed and started again on the same data and ports.

    `url` is that of DICOMweb, `user` and `password` who may ask; `worklists` is the folder of worklist files; `title` and `dicom_port`
    are those of DIMSE. `peers` are titles that may call, each with the port at which it listens.
    """

    title = "ORTHANC"

    def __init__(self, folder, peers=None):
        self.folder, self.worklists = Path(folder), Path(folder) / "worklists"
        self.worklists.mkdir(parents=True)
        self.user, self.password = "room", secrets.token_urlsafe(16)
        self.port, self.dicom_port = find_port(), find_port()
        self.url = f"http://127.0.0.1:{self.port}/dicom-web"
        self._process = None
        settings = {
            "Name": "tests", "StorageDirectory": str(self.folder / "data"), "IndexDirectory": str(self.folder / "data"),
            "HttpPort": self.port, "RemoteAccessAllowed": False, "AuthenticationEnabled": True,
            "RegisteredUsers": {self.user: self.password}, "DicomPort": self.dicom_port, "DicomAet": self.title,
            "DicomCheckCalledAet": True, "DicomAlwaysAllowEcho": False, "DicomAlwaysAllowStore": False,
            "DicomCheckModalityHost": True, "OverwriteInstances": False, "SyncStorageArea": True, "DefaultEncoding": "Utf8",
            "Plugins": [str(PLUGINS / name) for name in NEEDED], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "Worklists": {"Enable": True, "Database": str(self.worklists)},
            "DicomModalities": {
                name: {"AET": name, "Host": "127.0.0.1", "Port": port, "AllowFindWorklist": True}
                for name, port in (peers or {"FUNDOSCOPE": 11112}).items()
            },
        }  # fmt: skip
        (self.folder / "orthanc.json").write_text(json.dumps(settings))

    def start(self):
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["Orthanc", str(self.folder / "orthanc.json")], stdout=log, stderr=log, start_new_session=True,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            assert self._process.poll() is None, (self.folder / "log").read_text()[-3000:]
            try:
                if self.ask("/system")["Name"] == "tests":
                    return self
            except requests.ConnectionError:
                time.sleep(0.1)
        raise TimeoutError((self.folder / "log").read_text()[-3000:])

    def stop(self, how=signal.SIGTERM):
        """End it, with SIGKILL in the middle of what it does; it stays away until `start`."""
        if self._process is not None:
            os.killpg(self._process.pid, how)
            self._process.wait(20)
            self._process = None

    def ask(self, path, method="GET", **values):
        """Orthanc's own REST: the answer as JSON, or as bytes for a file."""
        answer = requests.request(
            method, f"http://127.0.0.1:{self.port}{path}", auth=(self.user, self.password), timeout=30, **values
        )
        answer.raise_for_status()
        return answer.content if path.endswith("/file") else answer.json()

    def put(self, file):
        """Store a DICOM file as a camera would."""
        return self.ask("/instances", "POST", data=file)

    def files(self):
        """All files that it holds."""
        return [self.ask(f"/instances/{number}/file") for number in self.ask("/instances")]
