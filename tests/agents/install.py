"""Fetches the real programs from npm and PyPI into a cache of this machine, each version in a folder of its own.

    python -m tests.agents.install [--newest] [PROGRAM…]

The cache is `$RELAYBROKER_AGENTS`, else `~/.cache/relaybroker-agents`. What is there is not fetched again. No install
script of any package runs; native programs are linked by hand (`linked` in versions.toml). npm runs under a Node of its
own, since under an older one it silently picks older programs.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

FETCH_S = 900.0
_UNREACHABLE = (
    "ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "network",
    "Failed to establish a new connection", "Temporary failure in name resolution", "No matching distribution", "ReadTimeout",
)  # fmt: skip
"""What npm and pip say when they cannot reach their registry (pip then sees no distribution at all)."""

DATA: dict[str, Any] = tomllib.loads((Path(__file__).parent / "versions.toml").read_text())
PROGRAMS: tuple[str, ...] = tuple(DATA["programs"])


class OutOfReachError(Exception):
    """The registry does not answer: nothing can be said about the programs."""


class Installed(NamedTuple):
    """One version of one program, ready to run."""

    program: str
    version: str
    path: tuple[Path, ...]
    """Folders that belong into PATH before all others."""

    def command(self) -> Path:
        """The file that a user starts."""
        return next(command for one in self.path if (command := one / self.program).exists())


def cache() -> Path:
    """Where everything is kept."""
    return Path(os.environ.get("RELAYBROKER_AGENTS") or Path.home() / ".cache" / "relaybroker-agents")


def install(program: str, *, newest: bool = False) -> Installed:
    """This program in its pinned or newest version; fetched when it is not there. Raises OutOfReachError."""
    entry = DATA["programs"][program]
    version = newest_version(program) if newest else entry["version"]
    place = cache() / f"{program}-{version}"
    if "pypi" in entry:
        _once(place, lambda: _fetch_pypi(place, entry["pypi"], version))
        return Installed(program, version, (place / "venv" / "bin",))
    node = node_folder()
    _once(place, lambda: _fetch_npm(place, f"{entry['npm']}@{version}", node, entry))
    return Installed(program, version, (place / "node_modules" / ".bin", node))


def newest_version(program: str) -> str:
    """What the registry gives today. Raises OutOfReachError."""
    entry = DATA["programs"][program]
    if "npm" in entry:
        said = _run([*_npm(node_folder()), "view", entry["npm"], "version"], "npm registry", node_folder())
        return said.strip().splitlines()[-1]
    said = _run([sys.executable, "-m", "pip", "index", "versions", entry["pypi"]], "PyPI", None)
    return said[said.index("(") + 1 : said.index(")")]


def node_folder() -> Path:
    """The folder of the Node under which npm and the programs run. Raises OutOfReachError."""
    entry = DATA["node"]
    place = cache() / f"node-{entry['version']}"
    package: str = entry["package"].format(arch=_arch())
    _once(place, lambda: _fetch_npm(place, f"{package}@{entry['version']}", None, entry))
    return place / "node_modules" / package / "bin"


def _arch() -> str:
    return {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _npm(node: Path | None) -> list[str]:
    """npm of this machine, run by `node`."""
    npm = shutil.which("npm")
    if npm is None:
        raise OutOfReachError("npm is not installed")
    return ["npm"] if node is None else [str(node / "node"), str(Path(npm).resolve())]


def _fetch_npm(place: Path, wanted: str, node: Path | None, entry: dict[str, Any]) -> None:
    (place / "package.json").write_text('{"private":true}')
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
    _run([*_npm(node), "install", *options, wanted], "npm registry", node, cwd=place)
    modules = place / "node_modules"
    for target, source in entry.get("linked", {}).items():
        (modules / target).unlink(missing_ok=True)
        os.link(modules / source.format(arch=_arch()), modules / target)
    for name in (*entry.get("linked", {}), *entry.get("executable", ())):
        (modules / name.format(arch=_arch())).chmod(0o755)


def _fetch_pypi(place: Path, package: str, version: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True, timeout=FETCH_S)
    python = str(place / "venv" / "bin" / "python")
    _run([python, "-m", "pip", "install", "--quiet", "--retries=1", f"{package}=={version}"], "PyPI", None)


def _run(command: list[str], registry: str, node: Path | None, *, cwd: Path | None = None) -> str:
    environment = dict(os.environ)
    if node is not None:
        environment["PATH"] = f"{node}:{environment['PATH']}"
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=FETCH_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise OutOfReachError(f"{registry} did not answer within {FETCH_S:.0f} s") from None
    if done.returncode == 0:
        return done.stdout
    said = done.stdout + done.stderr
    if any(word in said for word in _UNREACHABLE):
        raise OutOfReachError(f"{registry} is not reachable")
    raise RuntimeError(f"{' '.join(command)} failed: {said[-2000:]}")


def _once(place: Path, fetch: Any) -> None:
    """Prepare a place once per machine; a half-made one is made again. Others wait meanwhile."""
    with _only_one(place):
        if (place / ".complete").exists():
            return
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        fetch()
        (place / ".complete").touch()


@contextmanager
def _only_one(place: Path) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Install what is asked for; 77 when a registry is out of reach."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--newest", action="store_true", help="what the registries give today, not the pinned versions")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=" ".join(PROGRAMS))
    given = parser.parse_args()
    for program in given.programs or PROGRAMS:
        try:
            installed = install(program, newest=given.newest)
        except OutOfReachError as error:
            print(f"REAL PROGRAMS NOT INSTALLED: {program}: {error}", file=sys.stderr)
            return 77
        print(f"{program} {installed.version}: {installed.command()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
