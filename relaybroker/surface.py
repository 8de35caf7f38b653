"""What the broker and its local API (`adapters/http/api`) need of each other.

Source: design/architecture.md section 6; spec/local-api.md sections 0.3 and 7.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.pty.protocol import Answer, Output, Resize, Snapshot
    from adapters.pty.protocol import Input as RawInput
    from domain.effects import Notify, Reply
    from domain.inputs import Input
    from domain.state import State
    from relaybroker.settings import Settings


class CorePort(Protocol):
    """What the local API asks of the broker."""

    @property
    def state(self) -> State:
        """The core's state, to look at and never to change."""

    @property
    def workspace_key(self) -> str:
        """The workspace key; callers with the API key may see it."""

    def offer(self, item: Input) -> bool:
        """Give the core an input; False if it has no room (429 `queue_full`)."""

    async def ask_host(self, request: RawInput | Resize | Snapshot) -> Answer:
        """Ask the PTY host; raises HostUnavailable or HostBackpressure."""

    def watch_output(self, *, on: bool) -> None:
        """Turn the stream of terminal output on or off."""


class Surface(Protocol):
    """What the broker asks of the local API."""

    async def bind(self, host: str, port: int) -> int:
        """Listen and answer as during start-up (503, `/health` 200); the port that was bound. Raises OSError."""

    def open(self, core: CorePort) -> None:
        """Answer everything from now on."""

    def reply(self, reply: Reply) -> None:
        """Answer one request."""

    def notify(self, notification: Notify) -> None:
        """Tell every `/ws` client."""

    def output(self, output: Output) -> None:
        """Give terminal output to who watches it."""

    def idle_s(self) -> float:
        """Seconds since anybody with the key asked for anything; 0 while a `/ws` is open."""

    async def close(self) -> None:
        """Close sockets with 1001, answer waiting requests with 503, and stop listening."""


class SurfaceFactory(Protocol):
    """How the broker makes its local API."""

    def __call__(self, *, api_key: str, settings: Settings, request_shutdown: Callable[[str], None]) -> Surface:
        """A local API that is not listening yet."""
