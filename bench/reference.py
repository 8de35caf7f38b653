"""The reference broker's published binaries, fetched from npm once per machine. They are run; nothing of them is read or copied."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

PACKAGE = "@agent-relay/broker-linux-x64"
VERSIONS = ("9.1.6", "12.4.1")
CACHE = Path.home() / ".cache" / "relaybroker-bench"
FETCH_S = 100


class NotFetchedError(Exception):
    """The binary cannot be had here; the text says why."""


def binary(version: str) -> Path:
    """The executable of this version.

    Raises:
        NotFetchedError: npm is not installed, or its registry did not give the package.
    """
    place = CACHE / version
    program = place / "node_modules" / PACKAGE / "bin" / "agent-relay-broker"
    if not program.exists():
        _fetch(version, place)
    program.chmod(0o755)
    return program


def _fetch(version: str, place: Path) -> None:
    if shutil.which("npm") is None:
        raise NotFetchedError("npm is not installed")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        Path(folder, "package.json").write_text('{"private": true}')
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        try:
            done = subprocess.run(
                [*command, f"{PACKAGE}@{version}"],
                cwd=folder, capture_output=True, text=True, timeout=FETCH_S, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NotFetchedError(f"npm did not answer within {FETCH_S} s") from None
        if done.returncode:
            raise NotFetchedError((done.stderr or done.stdout).strip().splitlines()[0])
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place, symlinks=True)
