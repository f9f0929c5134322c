"""Install the Debian packages that the tests of services need, then run those tests: `make test-services`.

A browser walks through the reading room, PostgreSQL carries the tests of the reading room once more, DCMTK sends and stores, Orthanc
is the PACS of a hospital. Where a package cannot be installed (no Debian, no right to, no network), its tests are left out and said so;
with CI set that is a failure. Debian's Orthanc listens on all addresses as soon as it is installed: it is switched off again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POSTGRESQL_MISSING = 77  # exit status of tests/server/postgres.py


def _has_chinese_letters() -> bool:
    found = shutil.which("fc-list") and subprocess.run(["fc-list", ":lang=zh"], capture_output=True, text=True).stdout
    return bool(found)


#: Debian's package, and how to tell that what it brings is there.
PACKAGES: dict[str, Callable[[], bool]] = {
    "chromium": lambda: bool(shutil.which("chromium")),
    "postgresql": lambda: any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or bool(shutil.which("initdb")),
    "dcmtk": lambda: bool(shutil.which("dsrdump")),  # pynetdicom, too, installs a storescu
    "dicom3tools": lambda: bool(shutil.which("dciodvfy")),
    "orthanc": lambda: bool(shutil.which("Orthanc")),
    "orthanc-dicomweb": lambda: Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so").exists(),
    "fonts-wqy-microhei": _has_chinese_letters,
    "nodejs": lambda: bool(shutil.which("node")),
    "npm": lambda: bool(shutil.which("npm")),
}


def install_missing() -> list[str]:
    """Install what is missing by apt-get; the packages that are still missing then."""
    missing = [name for name, is_there in PACKAGES.items() if not is_there()]
    if missing and shutil.which("apt-get"):
        prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
        if not prefix or shutil.which("sudo"):
            print(f"installing {' '.join(missing)}", flush=True)
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run([*prefix, "apt-get", "update", "-qq"], env=environment)
            command = [*prefix, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL)
            if "orthanc" in missing and shutil.which("systemctl"):
                subprocess.run([*prefix, "systemctl", "disable", "--now", "orthanc"], stderr=subprocess.DEVNULL)
    return [name for name in missing if not PACKAGES[name]()]


def main() -> int:
    """Run the tests of services, then those of the reading room on PostgreSQL; 0 where all passed."""
    missing = install_missing()
    if missing:
        print(f"Not installed: {', '.join(missing)}. Install them with: apt-get install {' '.join(missing)}")
        if os.environ.get("CI"):
            return 1
        print("Tests that need them are left out.")
    pytest = [sys.executable, "-m", "pytest"]
    services = subprocess.run([*pytest, "-m", "services", "-rs"], cwd=ROOT).returncode
    beside = [sys.executable, "tests/server/postgres.py", *pytest, "-m", "not services", "tests/server"]
    on_postgresql = subprocess.run(beside, cwd=ROOT).returncode
    if on_postgresql == POSTGRESQL_MISSING and "postgresql" in missing:
        on_postgresql = 0
    return services or on_postgresql


if __name__ == "__main__":
    sys.exit(main())
