"""What the local API asks of the broker behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.adapters.sessions.host.protocol import Answer, Asks
from relaybroker.domain.continuity import Continuity
from relaybroker.domain.inputs import EngineAnswered, EngineUnanswered, Input
from relaybroker.domain.state import State
from relaybroker.domain.story import Story


class DiskRoom(Protocol):
    """How the disk of the log is."""

    @property
    def grade(self) -> str:
        """`ok`, `nearly_full`, `full` or `unwritable`."""

    @property
    def free(self) -> int:
        """Bytes."""

    @property
    def takes_more(self) -> bool:
        """Whether anything new may be accepted."""


class AuditLog(Protocol):
    """The broker's log, as far as it answers questions."""

    async def why(self, identifier: str) -> list[Story]:
        """What became of what this id means; InvalidRequest when the log does not know it, or it means several things."""

    async def messages(self, **wanted: Any) -> list[dict[str, Any]]:
        """The newest messages that fit; InvalidRequest when a filter names nothing that there is."""

    async def marks(self, message_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
        """What became of these messages, for each agent here that was to get one."""

    async def continuity(self, name: str) -> Continuity | None:
        """What the newest agent of this name left to whoever goes on with its work; None if nobody knows one."""

    async def deliveries(self, **wanted: Any) -> list[dict[str, Any]]:
        """The newest deliveries that fit the fields of `DeliveriesQuery`, newest first."""

    async def search(self, **filters: Any) -> list[dict[str, Any]]:
        """Events that fit the fields of `LogQuery`; InvalidRequest when one of them names nothing that there is."""


class Gateway(Protocol):
    """The broker, as the local API sees it."""

    @property
    def state(self) -> State:
        """The core's state, to look at and never to change."""

    @property
    def workspace_key(self) -> str:
        """The workspace key; callers with the API key may see it (`/api/session`)."""

    @property
    def audit(self) -> AuditLog:
        """The log, to be asked."""

    async def settled(self) -> None:
        """Returns when everything that the state shows now is durable, or soon in any case."""

    def disk_room(self) -> DiskRoom:
        """How the disk of the log is."""

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """What Prometheus is told, in a format that the asker takes, and which that is."""

    def log_locked_s(self) -> float:
        """For how many seconds another program has kept the log from being written; 0 when none does."""

    def offer(self, item: Input) -> bool:
        """Give the core an input; False if it has no room."""

    async def tell(self, item: Input) -> None:
        """Give the core an input; returns when it had room."""

    async def ask_host(self, request: Asks) -> Answer:
        """Ask the PTY host; raises HostUnavailable or HostBackpressure."""

    def agent_of(self, token: str) -> str:
        """The agent id whose newest token this is, "" if it is nobody's; in the same time for every token."""

    async def ask_engine(self, call: HttpCall) -> EngineAnswered | EngineUnanswered:
        """Look at the engine: a GET, with the credential that the call names. It leaves no trace."""

    def keep_supplied_token(self, token: str) -> str:
        """Take a token that a caller brought along for an agent; its fingerprint."""

    def keep_variables(self, values: Mapping[str, str]) -> str:
        """Take the variables that a caller brought along for an agent, durably; their reference. Raises OSError."""

    def forget_variables(self, reference: str) -> None:
        """Drop variables of a spawn that was refused. Raises OSError."""

    def name_sidecar_environment(self, named: Mapping[str, str]) -> None:
        """What the sidecar's program gets into its environment when it is started again."""

    def watch_output(self, *, on: bool) -> None:
        """Turn the stream of terminal output on or off."""
