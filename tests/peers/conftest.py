"""Programs that this project did not write, fetched once per machine from their public registries.

They are test-time dependencies only. Where no registry can be reached the tests that need them are skipped, loudly.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CACHE = Path.home() / ".cache" / "relaybroker-tests"
FETCH_S = 100.0
_UNREACHABLE = (
    "ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "network",
    "Failed to establish a new connection", "Temporary failure in name resolution", "No matching distribution", "ReadTimeout",
)  # fmt: skip
"""What npm and pip say when they cannot reach their registry (pip then sees no distribution at all)."""


@contextmanager
def only_one(place: Path) -> Iterator[None]:
    """Nobody else prepares this place meanwhile: parallel test workers share it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch(command: list[str], registry: str, *, cwd: Path) -> None:
    """Run an installer; skip when its registry is out of reach, fail when anything else is wrong."""
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=FETCH_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"PEER TEST SKIPPED: {registry} did not answer within {FETCH_S:.0f} s")
    if done.returncode == 0:
        return
    said = done.stdout + done.stderr
    if any(word in said for word in _UNREACHABLE):
        pytest.skip(f"PEER TEST SKIPPED: {registry} not reachable")
    pytest.fail(f"{' '.join(command)} failed: {said[-2000:]}")


@pytest.fixture(scope="session")
def npm_package() -> Callable[..., Path]:
    """`npm_package(name, version, *more)` -> a project directory whose `node_modules` holds that package.

    `more` are further `name@version` that belong into the same project.
    """

    def project(name: str, version: str, *more: str) -> Path:
        if shutil.which("npm") is None or shutil.which("node") is None:
            pytest.skip("PEER TEST SKIPPED: node and npm are not installed")
        wanted = [f"{name}@{version}", *more]
        place = CACHE / "npm" / "+".join(wanted).replace("/", "-").replace("@", "-").lstrip("-")
        with only_one(place):
            if not (place / ".complete").exists():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
                (place / "package.json").write_text('{"private":true,"type":"module"}')
                fetch(
                    ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", *wanted],
                    "npm registry",
                    cwd=place,
                )
                (place / ".complete").touch()
        return place

    return project


@pytest.fixture(scope="session")
def pypi_venv() -> Callable[..., Path]:
    """`pypi_venv(folder, *requirements)` -> the Python of a virtual environment that holds these packages."""

    def python_of(folder: str, *requirements: str) -> Path:
        place = CACHE / folder
        with only_one(place):
            if not (place / ".complete").exists():
                shutil.rmtree(place, ignore_errors=True)
                subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, timeout=FETCH_S)
                fetch(
                    [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--retries=1", *requirements],
                    "PyPI",
                    cwd=place,
                )
                (place / ".complete").touch()
        return place / "bin" / "python"

    return python_of


@pytest.fixture
def plain_environment(tmp_path: Path) -> dict[str, str]:
    """An environment for foreign programs: a home of their own, no telemetry, nothing of ours."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TERM": "xterm-256color",
        "USER": "tester",
        "DO_NOT_TRACK": "1",
        "AGENT_RELAY_TELEMETRY_DISABLED": "1",
    }
