"""Where the local API listens, and the one line on standard output that says so.

Source: spec/local-api.md sections 0.3 and 7.5.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from typing import TYPE_CHECKING

import msgspec

from relaybroker.adapters.private_files import read_private, write_private
from relaybroker.config.connection_file import Connection
from relaybroker.domain.decoding import NOT_READABLE

if TYPE_CHECKING:
    from pathlib import Path

    from relaybroker.config.settings import Settings
    from relaybroker.node.surface import Surface

_log = logging.getLogger(__name__)


class _Memory(msgspec.Struct):
    """What a restarted broker takes up again."""

    api_port: int = 0


async def listen(surface: Surface, settings: Settings, memory: Path, api_key: str) -> Connection:
    """Bind the local API and print the banner. Without a chosen port the one of the last run is taken again, if it is free.

    Raises:
        OSError: the address cannot be bound.
    """
    remembered = _recall(memory) if settings.api_port == 0 else 0
    try:
        port = await surface.bind(settings.api_bind, settings.api_port or remembered)
    except OSError as error:
        if not remembered:
            raise OSError(f"cannot listen on {settings.api_bind} port {settings.api_port}: {error}") from error
        _log.warning("port %d of the last run is taken; using another: %s", remembered, error)
        port = await surface.bind(settings.api_bind, 0)
    if settings.api_port == 0 and port != remembered:
        write_private(memory, msgspec.json.encode(_Memory(api_port=port)))
    if not _is_loopback(settings.api_bind):
        _log.warning("the local API listens on %s: whoever has the key controls this broker", settings.api_bind)
    url = f"http://{shown_host(settings.api_bind)}:{port}"
    sys.stdout.write(f"[agent-relay] API listening on {url}\n")
    sys.stdout.flush()
    return Connection(url=url, port=port, api_key=api_key, pid=os.getpid())


def shown_host(bind: str) -> str:
    """The bind address as a client on this machine writes it: loopback for a wildcard, IPv6 in brackets."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(bind, bind)  # noqa: S104 - compared, not bound
    return f"[{host}]" if ":" in host else host


def _is_loopback(bind: str) -> bool:
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"


def _recall(path: Path) -> int:
    try:
        return msgspec.json.decode(read_private(path), type=_Memory).api_port
    except (FileNotFoundError, *NOT_READABLE):
        return 0
