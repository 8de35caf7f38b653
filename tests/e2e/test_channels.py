"""An agent is at the engine where it was spawned to be."""

from __future__ import annotations


def test_an_agent_is_a_member_of_the_channels_it_was_spawned_with(live_broker):
    """F038: a mention in its channel reaches it, and only it; a channel that it did not join stays silent."""
    live_broker.spawn("w1", channels=["ops"])
    live_broker.spawn("w2", channels=["lab"])
    me = live_broker.engine("POST", "/v1/agents", {"name": "lead"})["token"]
    for channel in ("ops", "lab"):
        live_broker.engine("POST", f"/v1/channels/{channel}/join", token=me)
    mention = live_broker.engine("POST", "/v1/channels/ops/messages", {"text": "@w1 look at this"}, token=me)["id"]
    live_broker.expect_typed("w1", "@w1 look at this")
    live_broker.expect_acked(str(mention))
    live_broker.engine("POST", "/v1/channels/lab/messages", {"text": "for the lab"}, token=me)
    live_broker.expect_typed("w2", "for the lab")
    assert len(live_broker.typed("w1")) == len(live_broker.typed("w2")) == 1
    members = live_broker.engine("GET", "/v1/channels/ops/members")
    assert "w1" in {row.get("agent_name") or row.get("name") for row in members}
