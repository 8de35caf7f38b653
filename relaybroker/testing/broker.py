"""What a test asks of a broker, whichever it is: one test runs on the simulated and on the live one.

Source: spec/conversation.md; docs/testing.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self

TESTER = "tester"
"""The person at the engine who posts what `deliver` posts, unless a test says otherwise."""


class Message(str):
    """A message that the engine has: its id; whom it was posted `to`, and its `seq` in the mailbox of that agent (0 = not told)."""

    __slots__ = ("seq", "to")

    def __new__(cls, msg_id: str, to: str = "", seq: int = 0) -> Self:
        """The id, and what goes with it."""
        made = super().__new__(cls, msg_id)
        made.to, made.seq = to, seq
        return made

    to: str
    seq: int

    @property
    def msg_id(self) -> str:
        """The id alone."""
        return str(self)


class TestBroker(Protocol):
    """A broker with its engine and its agents. Names that nobody has, and what cannot be done, raise `Refused`."""

    __test__: ClassVar[bool] = False

    def spawn(self, name: str) -> Any:
        """Start a scripted agent and wait until it takes input."""

    def release(self, name: str) -> None:
        """End an agent."""

    def person(self, name: str) -> None:
        """Somebody at the engine of whom no program runs."""

    def join(self, name: str, channel: str) -> None:
        """An agent or person becomes a member of a channel, which is made if there is none. All are in `general`."""

    def deliver(self, to: str, text: str, *, sender: str = ..., thread: str = ..., mode: str = ...) -> Message:
        """Post a message at the engine, as a person: to an agent or `#channel`, or as an answer to the message `thread`."""

    def send(self, to: str, text: str, *, sender: str = ..., thread: str = ..., key: str = ...) -> dict[str, Any]:
        """Send through the broker, as an agent that lives here or as the broker itself; the API's answer."""

    def fetch(self, name: str, limit: int = ...) -> list[dict[str, Any]]:
        """An agent takes what waits for it: it is not typed any more."""

    def hold(self, name: str) -> None:
        """Keep messages for an agent until `flush` (delivery mode `manual_flush`)."""

    def unhold(self, name: str) -> None:
        """Type messages as they come again, and those that were held."""

    def flush(self, name: str) -> int:
        """Type what is held; how many that is."""

    def typed(self, name: str) -> list[str]:
        """What was typed to an agent, oldest first."""

    def expect_typed(self, name: str, *texts: str, within_s: float = ...) -> None:
        """The agent is typed texts that contain these, in this order, within the time."""

    def is_acked(self, message: Message) -> bool:
        """Whether the engine has the acknowledgement of the agent that this message is to."""

    def expect_acked(self, *messages: Message, within_s: float = ...) -> None:
        """It has, or gets it within the time."""

    def wait(self, holds: Callable[[], Any], *, within_s: float = ..., what: str = ...) -> None:
        """Let time pass until something holds, within the time."""

    def why(self, wanted: str) -> str:
        """What `relaybroker why` prints."""

    def crash(self) -> None:
        """Kill -9 of the broker; agents, terminals and engine live on."""

    def restart(self) -> None:
        """Start it again. `Refused` if it runs."""
