"""What the broker needs of its local API (`adapters/http/api`). What that needs of the broker is its `Gateway`.

Source: design/architecture.md section 6; spec/local-api.md sections 0.3 and 7.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from relaybroker.adapters.http.api.gateway import Gateway
    from relaybroker.adapters.sessions.host.protocol import Output
    from relaybroker.config.settings import Settings
    from relaybroker.domain.effects import Announce, InvokeHandler, Reply


class Surface(Protocol):
    """What the broker asks of the local API."""

    async def bind(self, host: str, port: int) -> int:
        """Listen and answer as during start-up (503, `/health` 200); the port that was bound. Raises OSError."""

    def open(self, core: Gateway) -> None:
        """Answer everything from now on."""

    def reply(self, reply: Reply) -> None:
        """Answer one request."""

    def announce(self, wanted: Announce) -> None:
        """Tell every `/ws` client."""

    def invoke_handler(self, wanted: InvokeHandler) -> None:
        """Give an invocation to a sidecar."""

    def close_sidecar(self, connection: str, detail: str) -> None:
        """Close a sidecar's socket after what was sent before."""

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
