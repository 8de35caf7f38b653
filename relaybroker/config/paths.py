"""Where everything is on disk: the state directory of one broker, its run directory for secrets, and the user's data directory.

Source: spec/local-api.md section 4.6; spec/node-protocol.md section 1.1.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNSAFE = re.compile(r"[^A-Za-z0-9-]")
_DIRECTORY_DIGITS = 8


MAX_DATABASE_PATH = 500
"""Bytes in the path of a database: SQLite takes 512 with the names of its files beside it."""


class Paths(msgspec.Struct, frozen=True):
    """Paths of one broker."""

    state: Path
    """0700; the journal, the sockets and the connection file."""
    run: Path
    """0700, outside the project tree; secrets of agents."""
    data: Path
    """`<data_local>/agent-relay`; shared by all brokers of this user."""
    name: str
    """The instance name as part of file names."""
    ephemeral: bool
    """Whether `state` ends with the broker."""

    @property
    def lock(self) -> Path:
        return self.state / f"broker-{self.name}.lock"

    @property
    def journal(self) -> Path:
        return self.state / f"journal-{self.name}.sqlite"

    @property
    def too_long(self) -> str:
        """Why no broker can run in so long a path, for a person; "" = it can."""
        longest = max(len(os.fsencode(path)) for path in (self.journal, self.engine / "engine.sqlite"))
        if longest <= MAX_DATABASE_PATH:
            return ""
        return (
            f"path_too_long: the path of the log has {longest} bytes, and a database takes {MAX_DATABASE_PATH};"
            " name a shorter directory with --state-dir"
        )

    @property
    def connection(self) -> Path:
        return self.state / "connection.json"

    @property
    def own_connection(self) -> Path:
        return self.state / f"connection-{self.name}.json"

    @property
    def workspace(self) -> Path:
        """Key of the workspace that the broker made for itself, and the address that it had before."""
        return self.state / "workspace.json"

    @property
    def memory(self) -> Path:
        """What a restarted broker takes up again: its API port."""
        return self.state / f"memory-{self.name}.json"

    @property
    def host_socket(self) -> Path:
        return self.state / f"host-{self.name}.sock"

    @property
    def host_log(self) -> Path:
        return self.state / f"host-{self.name}.log"

    @property
    def worker_logs(self) -> Path:
        return self.state / "team" / "worker-logs"

    @property
    def engine(self) -> Path:
        return self.state / "engine"

    @property
    def tokens(self) -> Path:
        return self.run / "tokens"

    @property
    def environments(self) -> Path:
        """Of spawns whose programs are not started yet."""
        return self.run / "environments"

    @property
    def commands(self) -> Path:
        """What agents find last in their PATH."""
        return self.run / "bin"

    @property
    def own_files(self) -> Path:
        """Of agents, by which their programs find each other; a directory per session."""
        return self.run / "own-files"

    @property
    def node_tokens(self) -> Path:
        return self.data / "node-tokens"

    @property
    def former_node_token(self) -> Path:
        """The one token file of older programs, good for any node: never read."""
        return self.data / "node-token.json"

    @property
    def own_tokens(self) -> Path:
        return self.data / "own-tokens"


def file_name(instance_name: str) -> str:
    """The instance name as it stands in file names: everything but letters, digits and `-` becomes `-`."""
    return _UNSAFE.sub("-", instance_name)


def paths_of(instance_name: str, state: Path, environ: Mapping[str, str], *, ephemeral: bool) -> Paths:
    """The paths of the broker `instance_name` in `state` (canonical). Nothing is made.

    Raises:
        LookupError: the user has no home directory and names no data directory.
    """
    name = file_name(instance_name)
    data_local = data_local_directory(environ)
    digest = hashlib.sha256(os.fsencode(state)).hexdigest()[:_DIRECTORY_DIGITS]
    runtime = environ.get("XDG_RUNTIME_DIR", "").strip()
    base = Path(runtime) if runtime else data_local
    run = base / "agent-relay" / "run" / f"{name}-{digest}"
    return Paths(state=state, run=run, data=data_local / "agent-relay", name=name, ephemeral=ephemeral)


def data_local_directory(environ: Mapping[str, str]) -> Path:
    """The user's directory for data of this machine.

    Raises:
        LookupError: the environment does not say where the home directory is.
    """
    if sys.platform == "darwin":
        return _home(environ) / "Library" / "Application Support"
    named = environ.get("XDG_DATA_HOME", "").strip()
    return Path(named) if named else _home(environ) / ".local" / "share"


def _home(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME", "").strip()
    if not home:
        raise LookupError("HOME is not set; set XDG_DATA_HOME or HOME")
    return Path(home)
