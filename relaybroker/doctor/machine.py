"""The machine, the settings and the places on disk."""

from __future__ import annotations

import os
import platform
import resource
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from relaybroker import __version__
from relaybroker.config.chosen import SettingsError, choose
from relaybroker.config.paths import data_local_directory, paths_of
from relaybroker.doctor.findings import Finding, broken, doubtful, ok

OPEN_FILES = 4096
"""So many a broker with some hundred agents needs."""
ROOM_LEAST, ROOM_LITTLE = 100 * 2**20, 2**30
"""Free bytes below which a log cannot be written for long, and below which somebody should look."""
_NETWORK = ("nfs", "nfs4", "cifs", "smbfs", "smb3", "fuse.sshfs", "9p", "afs", "ceph", "glusterfs")
"""File systems on which SQLite's locks and shared memory cannot be relied on."""


def program() -> Iterator[Finding]:
    """Python, platform, limits."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield ok("program", f"relaybroker {__version__}, Python {version} at {sys.executable}, {platform.platform()}")
    if sys.platform != "linux" and sys.platform != "darwin":
        yield doubtful("program", f"{sys.platform} is not supported", "run it on Linux or macOS")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        yield doubtful(
            "limits", f"at most {hard} open files", f"raise it: ulimit -n {OPEN_FILES}, or LimitNOFILE= of the service"
        )
    else:
        yield ok("limits", f"{soft} open files, and up to {'any number' if hard == resource.RLIM_INFINITY else hard}")
    if "utf" not in (sys.stdout.encoding or "").lower():
        yield doubtful("terminal", f"this terminal's encoding is {sys.stdout.encoding}", "set LANG=C.UTF-8")


def settings(file: Path | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Configuration file, variables, and the programs of the fleet."""
    try:
        chosen = choose({}, environ, file).chosen
    except SettingsError as error:
        for line in str(error).splitlines():
            yield broken("settings", line, "every setting: relaybroker config")
        return
    yield ok(
        "settings", f"{file}" if file is not None else "no configuration file; the environment variables are valid"
    )
    for name, agent in chosen.agents.items():
        word = shlex.split(agent.cli)[0]
        missing = [variable for variable in agent.env_from if variable not in environ]
        if shutil.which(word, path=environ.get("PATH")) is None:
            yield broken(
                f"agent {name}",
                f"there is no program {word} in PATH",
                f"install it, or change agents.{name}.cli in {file}",
            )
        elif missing:
            yield broken(
                f"agent {name}",
                f"{missing[0]} is not set",
                f"set it where the broker starts, or remove it from {file}",
            )
        else:
            yield ok(f"agent {name}", agent.cli)


def places(state: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The state directory and the user's own."""
    try:
        data = data_local_directory(environ) / "agent-relay"
    except LookupError as error:
        yield broken("home", str(error), "set HOME or XDG_DATA_HOME")
        return
    if not state.is_dir():
        yield doubtful("state", f"{state} does not exist: no broker has run here", "start one: relaybroker up --detach")
    if why := paths_of("broker", state.resolve(), environ, ephemeral=False).too_long:
        yield broken("state", why, "name a shorter --state-dir")
    for subject, path in (("state", state), ("data", data)):
        if path.is_dir():
            yield from _directory(subject, path)


def _directory(subject: str, path: Path) -> Iterator[Finding]:
    status = path.stat()
    if status.st_uid != os.geteuid():
        yield broken(
            subject,
            f"{path} belongs to user id {status.st_uid}",
            "run as that user, or name another --state-dir",
        )
        return
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        yield broken(subject, f"{path} is on a read-only file system", "name another --state-dir")
        return
    if not os.access(path, os.W_OK | os.X_OK):
        yield broken(subject, f"{path} cannot be written", f"chmod u+rwx {shlex.quote(str(path))}")
        return
    if stat.S_IMODE(status.st_mode) & 0o077:
        yield doubtful(subject, f"other users can read {path}", f"chmod 700 {shlex.quote(str(path))}")
    kind = _file_system(path)
    if kind in _NETWORK:
        yield broken(subject, f"{path} is on {kind}, where locks are unreliable", "name a --state-dir on a local disk")
    usage = psutil.disk_usage(str(path))
    room = f"{path}, {usage.free / 2**30:.1f} GiB free"
    if usage.free < ROOM_LEAST:
        yield broken(subject, room, "free some space; relaybroker log archive makes the log smaller")
    elif usage.free < ROOM_LITTLE:
        yield doubtful(subject, room, "free some space; relaybroker log archive makes the log smaller")
    else:
        yield ok(subject, room)


def _file_system(path: Path) -> str:
    """The kind of file system that a path is on; "" where nobody says."""
    mounts = [part for part in psutil.disk_partitions(all=True) if path.resolve().is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else ""
