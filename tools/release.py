"""Build a release: `make release VERSION=1.2.3` checks, builds sdist and wheel into dist/, tries the wheel, prints checksums.

Nothing is uploaded and no tag is set; the last lines say how to do both.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def problems_before_release(version: str) -> list[str]:
    """What must be mended before this version can be released, a sentence each; empty if nothing."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    heading = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    found = []
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        found.append(f"'{version}' is no version. Give three numbers: make release VERSION=1.2.3")
    if declared != version:
        found.append(f"pyproject.toml says version {declared}. Set it to {version}.")
    if cited is None or cited.group(1) != version:
        found.append(f"CITATION.cff does not say version {version}. Set it.")
    if heading is None or not re.fullmatch(rf"{re.escape(version)} \(\d{{4}}-\d{{2}}-\d{{2}}\)", heading.group(1)):
        found.append(f"CHANGELOG.md does not begin with '## {version} (year-month-day)'. Date the release there.")
    if subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True).stdout:
        found.append("There are changes that are not committed. Commit them, or put them aside.")
    return found


def build(out: Path) -> list[Path]:
    """Sdist and wheel of this checkout in the folder `out`, in this order."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)], check=True)
    return [*sorted(out.glob("*.tar.gz")), *sorted(out.glob("*.whl"))]


def try_wheel(wheel: Path) -> None:
    """Install the wheel alone into a fresh environment and run the program there; raises `CalledProcessError`."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([f"{folder}/bin/python", "-m", "pip", "install", "--quiet", str(wheel)], check=True)
        for arguments in (["--version"], ["doctor"], ["bundle", "verify"]):
            subprocess.run([f"{folder}/bin/fundoscope", *arguments], check=True)


def main(version: str) -> int:
    """Release `version`; exit code 0, or 2 with the reasons why not."""
    if found := problems_before_release(version):
        print("Not released:\n" + "\n".join(f"  {problem}" for problem in found), file=sys.stderr)
        return 2
    files = build(ROOT / "dist")
    try_wheel(files[-1])
    for file in files:
        print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  dist/{file.name}")
    print(f"Next: git tag -s v{version} && git push origin v{version}, then upload dist/ where releases go.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
