"""How a starting service says how far it is: the datagrams of `sd_notify(3)`, to whoever named a socket in NOTIFY_SOCKET.

systemd does (`Type=notify`), and so does `relaybroker up --detach`, which waits for as long as it hears something.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import MutableMapping

VARIABLE = "NOTIFY_SOCKET"
EXTENSION_S = 60
"""Every word of progress asks for so much more time."""
MAX_BYTES = 4096


class ServiceNotices:
    """What this process tells about itself. Nobody listening is no failure; nothing here waits.

    Args:
        address: a socket's path, or `@` and its abstract name; "" = nobody listens.
    """

    def __init__(self, address: str = "") -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Self:
        """The listener that the environment names, which no program that we start shall find there."""
        return cls(environ.pop(VARIABLE, ""))

    def progress(self, what: str) -> None:
        """It goes on, and this is what is done now."""
        self._tell(STATUS=what, EXTEND_TIMEOUT_USEC=str(EXTENSION_S * 1_000_000))

    def ready(self, what: str) -> None:
        """The service answers."""
        self._tell(READY="1", STATUS=what)

    def stopping(self, what: str) -> None:
        """The service is asked to end."""
        self._tell(STOPPING="1", STATUS=what)

    def _tell(self, **words: str) -> None:
        if not self._address:
            return
        text = "\n".join(f"{name}={' '.join(value.split())}" for name, value in words.items())
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one,
        ):
            one.setblocking(False)
            one.sendto(text.encode()[:MAX_BYTES], self._address)


class NoticeListener:
    """A socket at which the notices of one started process arrive; a directory of its own that ends with it."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="relaybroker-start-")
        self.address = str(Path(self._directory) / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def next(self, limit_s: float) -> dict[str, str]:
        """The next notice; nothing when none comes in time."""
        self._socket.settimeout(limit_s)
        try:
            text = self._socket.recv(MAX_BYTES).decode("utf-8", "replace")
        except TimeoutError:
            return {}
        return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}


def environment_for(listener: NoticeListener) -> dict[str, str]:
    """The environment of a process that shall tell this listener."""
    return {**os.environ, VARIABLE: listener.address}
