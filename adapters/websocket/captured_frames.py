"""Text frames of the engine as inputs: what is no JSON object is said so; a secret gets no further than the vault.

Source: spec/node-protocol.md sections 2.2 and 2.4; invariant I7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from relaybroker.adapters.vault import agent_reference, fingerprint, is_agent_id
from relaybroker.adapters.websocket.oversize import shortened
from relaybroker.domain.credentials import replaced
from relaybroker.domain.decoding import MAX_DEPTH, NOT_READABLE, is_too_deep
from relaybroker.domain.inputs import FrameArrived, FrameUnreadable

if TYPE_CHECKING:
    from relaybroker.adapters.vault import Vault

BAD_JSON = "bad_json"
BINARY_FRAME = "binary_frame"

_DECODER = msgspec.json.Decoder(dict[str, Any])


def read_text_frame(dial: int, text: str) -> FrameArrived | FrameUnreadable:
    """The frame, or the fact that it is no JSON object. `size` of the fact is in UTF-8 bytes."""
    try:
        frame = _DECODER.decode(text)
    except NOT_READABLE:
        return FrameUnreadable(dial=dial, reason=BAD_JSON, size=len(text.encode("utf-8", "surrogatepass")))
    if text.count("[") + text.count("{") > MAX_DEPTH:  # a deeper value counts as absent
        frame = {key: None if is_too_deep(value) else value for key, value in frame.items()}
    return FrameArrived(dial=dial, frame=shortened(frame, len(text)))


def withhold_credentials(arrived: FrameArrived, vault: Vault) -> FrameArrived:
    """The frame; where it invokes an action, with references in place of what is named like a credential in its input."""
    if arrived.frame.get("type") != "action.invoke":
        return arrived
    given = replaced(arrived.frame.get("input"), vault.withhold, MAX_DEPTH)
    return FrameArrived(dial=arrived.dial, frame={**arrived.frame, "input": given})


def holds_token(arrived: FrameArrived) -> bool:
    """Whether the frame's `data` brings a token."""
    data = arrived.frame.get("data")
    return isinstance(data, dict) and isinstance(data.get("token"), str)


def move_token_into_vault(arrived: FrameArrived, vault: Vault) -> FrameArrived:
    """The frame with the fingerprint in place of the token. The token is in the vault, durably, if it names its agent.

    Raises:
        OSError: the token could not be kept.
    """
    data: dict[str, Any] = arrived.frame["data"]
    token = data["token"].strip()
    agent_id = data.get("agent_id")
    if token and isinstance(agent_id, str) and is_agent_id(agent_id):
        vault.keep(agent_reference(agent_id), token)
    shown = fingerprint(token) if token else ""
    return FrameArrived(dial=arrived.dial, frame={**arrived.frame, "data": {**data, "token": shown}})
