"""How local clients find the broker: `connection.json`, there exactly while the broker answers.

Source: spec/local-api.md sections 0.3 and 4.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from relaybroker.adapters.private_files import read_private, remove_private, write_private
from relaybroker.domain.decoding import NOT_READABLE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


Pid = Annotated[int, msgspec.Meta(gt=0, lt=2**31)]
"""A process id: anything else in a file is no process of ours."""
Port = Annotated[int, msgspec.Meta(gt=0, lt=2**16)]
Url = Annotated[str, msgspec.Meta(pattern=r"^http://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$(?!\n)")]


class Connection(msgspec.Struct, frozen=True):
    """Where a broker answers and with which key. Its repr shows no key."""

    url: Url
    port: Port
    api_key: str
    pid: Pid

    def __repr__(self) -> str:
        return f"Connection(url={self.url!r}, pid={self.pid})"


def publish(connection: Connection, paths: Iterable[Path]) -> None:
    """Write the connection to every path, each whole and readable by its owner only."""
    for path in paths:
        write_private(path, msgspec.json.encode(connection) + b"\n")


def withdraw(connection: Connection, paths: Iterable[Path]) -> None:
    """Remove those files that are still about this very broker (pid and port); another broker's file stays."""
    for path in paths:
        recorded = read(path)
        if recorded is not None and (recorded.pid, recorded.port) == (connection.pid, connection.port):
            remove_private(path)


def read(path: Path) -> Connection | None:
    """The connection in this file; None when there is none or it is no connection."""
    try:
        return msgspec.json.decode(read_private(path), type=Connection)
    except (FileNotFoundError, *NOT_READABLE):
        return None
