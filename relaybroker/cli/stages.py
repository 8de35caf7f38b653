"""How far a message has come, watched until a stage: sent, typed, acknowledged, read, answered.

`typed` and `acked` are what this broker knows of agents here; of an agent elsewhere the engine's read mark says both, since acknowledging
marks as read. `reply` is an answer in the message's thread.

Source: spec/conversation.md section 4.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from relaybroker.cli.exits import Exit
from relaybroker.cli.output import say, say_json

if TYPE_CHECKING:
    from relaybroker.cli.client import BrokerClient

STAGES = ("typed", "acked", "read", "reply")
TIMEOUT_S = 300.0
PAUSE_S, PAUSE_MAX_S = 0.2, 1.0
"""Between two looks: the first, and at most."""
_TYPED, _ACKED = ("injected", "acked"), ("acked",)


class Watch:
    """One message.

    Args:
        client: who asks.
        known: the message's id, or that of the stored message that is to become it.
        as_json: print stages as JSON, one a line.
    """

    def __init__(self, client: BrokerClient, known: str, *, as_json: bool) -> None:
        self._client = client
        self._known = known
        self._as_json = as_json
        self._printed: set[str] = set()
        self.message_id = known if known.isdigit() else ""

    def until(self, stage: str, timeout_s: float) -> Exit:
        """Wait for a stage, and print each as it comes; what the command's exit status is."""
        deadline, pause_s = time.monotonic() + timeout_s, PAUSE_S
        while True:
            reached, over = self._look(stage)
            if stage in reached:
                return Exit.DONE
            if over:
                return Exit.NOT_DELIVERED
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self._tell("timeout", f"not {stage} within {timeout_s:g} s")
                return Exit.PENDING
            time.sleep(min(pause_s, left_s))
            pause_s = min(PAUSE_MAX_S, 1.5 * pause_s)

    def _look(self, stage: str) -> tuple[set[str], bool]:
        """The stages that it has reached, and whether it ended before the one that is waited for."""
        stories = self._client.use("why_message", message_id=self._known)["stories"]
        deliveries = [story for story in stories if story["subject"].startswith("delivery:")]
        if not self.message_id:
            self.message_id = _published(stories)
            if self.message_id:
                self._tell("published", self.message_id)
        if self.message_id and not deliveries and self._known != self.message_id:
            self._known = self.message_id
        reached = {
            name
            for name, states in (("typed", _TYPED), ("acked", _ACKED))
            if deliveries and all(story["state"] in states or story["outcome"] == "delivered" for story in deliveries)
        }
        if self.message_id and (not deliveries or stage in ("read", "reply")):
            reached |= self._at_engine(stage)
        for name in STAGES:
            if name in reached:
                self._tell(name, self.message_id or self._known)
        failed = [story for story in stories if story["outcome"] == "not delivered"]
        is_over = bool(failed) and all(story["outcome"] != "pending" for story in stories)
        if is_over and stage not in reached:
            self._tell("not delivered", failed[0]["verdict"])
        return reached, is_over

    def _at_engine(self, stage: str) -> set[str]:
        readers = self._client.use("get_message_readers", message_id=self.message_id)["readers"]
        stages = {"typed", "acked", "read"} if readers else set()
        if stage == "reply":
            talk: dict[str, Any] = self._client.use("get_message_thread", message_id=self.message_id)
            parent = talk.get("parent") or {}
            answers = [row for row in talk.get("replies", ()) if row.get("agent_id") != parent.get("agent_id")]
            if answers:
                stages.add("reply")
        return stages

    def _tell(self, stage: str, detail: str) -> None:
        """Print a stage, once."""
        if stage in self._printed:
            return
        self._printed.add(stage)
        if self._as_json:
            say_json({"stage": stage, "message_id": self.message_id, "detail": detail}, indent=None)
        else:
            say(f"{stage}: {detail}" if detail != self.message_id else stage)


def _published(stories: list[dict[str, Any]]) -> str:
    """The id under which a stored message was published, from its verdict; "" if it was not."""
    published = next((story for story in stories if story["subject"].startswith("message:")), None)
    return str(published.get("message_id", "")) if published is not None else ""
