"""What one agent may have: nobody fills the engine, or what it gives to brokers, alone.

A message that would go over is refused whole and stored nowhere; what is delivered, or expires, makes room again. Channels and groups stay,
and so does their limit. A refusal of a sender is a line in the log, once a minute for each.

Source: spec/engine-contract.md section 7.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError
from relaybroker.engine.store import Tx

if TYPE_CHECKING:
    from relaybroker.engine.auth import Caller

SENDER_QUOTA = "sender_quota"
CHANNELS_MAX = 4096
"""Channels of a workspace, the archived ones among them."""


def require_room(tx: Tx, engine: Engine, caller: Caller, rows: int, size: int) -> None:
    """Room for so many more deliveries of this sender, each of so many characters. Raises EngineError 429 `sender_quota`.

    Who has nothing open may send any message: waiting would not make it smaller.
    """
    open_rows = tx.the(
        "SELECT COUNT(*) AS rows, COALESCE(SUM(length(payload)), 0) AS size FROM deliveries"
        " WHERE sender_id = ? AND status IN ('queued', 'delivered') AND expires_at > ?",
        caller.id, tx.now,
    )  # fmt: skip
    limits = engine.limits
    if not open_rows["rows"]:
        return
    if open_rows["rows"] + rows > limits.sender_open or open_rows["size"] + rows * size > limits.sender_open_size:
        _refuse(caller, f"{open_rows['rows']} deliveries of {open_rows['size']} characters")


def require_room_for_invocation(tx: Tx, engine: Engine, caller: Caller) -> None:
    """Room for one more invocation of this agent. Raises EngineError 429 `sender_quota`."""
    if caller.kind != "agent":
        return
    open_now = tx.count(
        "SELECT COUNT(*) FROM invocations WHERE caller_id = ? AND status IN ('pending', 'dispatched')", caller.id
    )
    if open_now >= engine.limits.sender_invocations:
        _refuse(caller, f"{open_now} invocations")


def require_room_for_channel(tx: Tx, engine: Engine, workspace_id: str, creator_id: str | None) -> None:
    """Room for one more channel or group. Raises EngineError 403 `channel_limit`."""
    if creator_id is not None:
        made = tx.count(
            "SELECT COUNT(*) FROM channels WHERE workspace_id = ? AND created_by = ?", workspace_id, creator_id
        )
        if made >= engine.limits.agent_channels:
            limit = engine.limits.agent_channels
            raise EngineError(403, "channel_limit", f"An agent may make {limit} channels and groups")
    if (
        tx.count("SELECT COUNT(*) FROM channels WHERE workspace_id = ? AND kind = 'channel'", workspace_id)
        >= CHANNELS_MAX
    ):
        raise EngineError(403, "channel_limit", f"A workspace has at most {CHANNELS_MAX} channels")


def _refuse(caller: Caller, has: str) -> NoReturn:
    raise EngineError(429, SENDER_QUOTA, f"{caller.name} has {has} open, and may have no more until some are settled")
