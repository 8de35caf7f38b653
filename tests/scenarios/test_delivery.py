"""S5 to S9, S15, S16, S18, S20: deliveries of a misbehaving engine, typed into a real terminal by the real broker."""

from __future__ import annotations

import asyncio

import pytest

from tests.scripted_engine import ok


async def acked(engine, name, seq):
    await engine.until(
        lambda: max((f["up_to_seq"] for f in engine.frames("delivery.ack", agent=name)), default=0) >= seq,
        what=f"ack {seq} of {name}",
    )


@pytest.mark.parametrize("knows", ["engine", "journal", "nobody"])
async def test_an_agent_with_history_goes_on_at_its_next_number(make_node, engine, knows):
    """S5, F003: with the engine's cursor, with the journal, and with neither."""
    if knows == "engine":
        engine.answers["agent.register"] = lambda f: ok(engine.registered(f["name"]) | {"delivery_ack_seq": 7})
    node = make_node()
    await node.start()
    await node.spawn("w1")
    if knows == "journal":
        for seq in range(1, 8):
            await engine.deliver("w1", seq, f"text {seq}")
        await acked(engine, "w1", 7)
        node.kill()
        await node.start()
        await engine.online(2)
    await engine.deliver("w1", 8, "text 8")
    await acked(engine, "w1", 8)
    expected = [f"text {seq}" for seq in range(1, 9)] if knows == "journal" else ["text 8"]
    await node.typed("w1", *expected)


async def test_a_hole_is_asked_for_twice_and_then_declared_lost(make_node, engine):
    """S6, F008: 3 never comes; two resyncs, lost at 10 s, then 4 and 5."""
    node = make_node(rate=10)
    await node.start()
    await node.spawn("w1")
    for seq in (1, 2, 4, 5):
        await engine.deliver("w1", seq, f"text {seq}")
    lost = await node.logged("mailbox.range_lost.v1")
    assert (lost.event.first, lost.event.last) == (3, 3)
    await acked(engine, "w1", 5)
    await node.typed("w1", "text 1", "text 2", "text 4", "text 5")
    assert len(engine.frames("node.register")) == 3, "the first one and two resyncs"
    acks = {heard.frame["up_to_seq"]: heard.at for heard in engine.heard if heard.frame["type"] == "delivery.ack"}
    assert min(acks[seq] for seq in (3, 4, 5) if seq in acks) - acks[2] > 0.85, "nothing beyond the hole for 10 s"


async def test_a_hole_that_a_resync_fills_keeps_the_order(make_node, engine):
    """S6, the variant; F007."""
    node = make_node(rate=5)
    await node.start()
    await node.spawn("w1")
    for seq in (1, 2, 4, 5):
        await engine.deliver("w1", seq, f"text {seq}")
    await engine.frame("node.register", count=2)
    await engine.deliver("w1", 3, "text 3")
    await acked(engine, "w1", 5)
    await node.typed("w1", *[f"text {seq}" for seq in range(1, 6)])
    assert node.log("mailbox.range_lost.v1") == []


async def test_a_reaction_before_its_message_changes_nothing(node, engine):
    """S7, F005, D7."""
    await node.spawn("w1")
    payload = {"type": "message.reacted", "data": {"message_id": "M1", "emoji": "+1", "agent_name": "bob"}}
    await engine.deliver("w1", 0, msg_id="M1", delivery_id="evt_message_reacted_M1_9", payload=payload)
    await engine.deliver("w1", 1, "the message")
    await acked(engine, "w1", 1)
    await node.typed("w1", "the message")


async def test_a_frame_for_a_released_agent_is_kept_acknowledged_and_disturbs_nobody(node, engine):
    """S8: never typed, a dead letter, then the acknowledgement, and the engine is told; others go on."""
    await node.spawn("w1")
    await node.spawn("w2")
    await engine.deliver("w1", 1, "one")
    await acked(engine, "w1", 1)
    assert (await node.api("DELETE", "/api/spawned/w1"))[0] == 200
    await engine.frame("agent.deregister")
    await engine.deliver("w1", 2, "too late")
    await engine.frame("agent.deregister", count=2)
    await engine.deliver("w2", 1, "for w2")
    await node.typed("w2", "for w2")
    kept = await node.logged("delivery.dead_lettered.v1")
    assert kept.event.reason == "retired"
    assert [frame["up_to_seq"] for frame in engine.frames("delivery.ack", agent="w1")] == [1, 2]


async def test_a_burst_during_an_open_registration_is_typed_in_order(make_node, engine):
    """S9, W-09: 500 frames while a registration hangs; beats go on, its reply is read in time."""
    node = make_node()
    await node.start()
    await node.spawn("w1")
    engine.answers["agent.register"] = lambda _: None
    slow = asyncio.create_task(node.api("POST", "/api/spawn", {"name": "w2", "cli": "cat"}))
    asked = await engine.frame("agent.register", name="w2")
    for seq in range(1, 501):
        await engine.deliver("w1", seq, f"text {seq}")
    await engine.send(id=asked["id"], **ok(engine.registered("w2")))
    assert (await slow)[0] == 200
    await acked(engine, "w1", 500)
    await node.typed("w1", *[f"text {seq}" for seq in range(1, 501)])


async def test_an_actions_output_is_typed_as_json_of_the_output(node, engine):
    """S15, F006, RV-G2: an object, `false`, and twice the same."""
    await node.spawn("w1")
    for number, output in enumerate(({"a": 1}, False, {"a": 1})):
        key = 0 if number == 2 else number
        payload = {"type": "action.completed", "data": {"invocation_id": f"inv_{key}", "output": output, "error": None}}
        await engine.deliver("w1", 0, msg_id=f"inv_{key}", delivery_id=f"evt_{key}", payload=payload)
    await node.typed("w1", '{"a":1}', "false")
    assert engine.frames("delivery.ack") == []


async def test_unknown_modes_and_missing_payloads_take_their_place(node, engine):
    """S16, F059."""
    await node.spawn("w1")
    await engine.deliver("w1", 1, "later is wait", mode="later")
    await engine.deliver("w1", 2, payload=...)
    await engine.deliver("w1", 3, "goes on", extra={"new": "key"})
    await acked(engine, "w1", 3)
    await node.typed("w1", "later is wait", "goes on")
    dropped = await node.logged("delivery.dropped.v1")
    assert dropped.event.reason == "poison"


async def test_release_and_respawn_go_on_at_the_next_number(node, engine):
    """S18, F004, R5: the same agent id, its cursor restored, deregister before register."""
    await node.spawn("w1")
    await engine.deliver("w1", 1, "one")
    await acked(engine, "w1", 1)
    await node.typed("w1", "one")
    await node.api("DELETE", "/api/spawned/w1")
    await node.spawn("w1")
    kinds = [heard.frame["type"] for heard in engine.heard if heard.frame["type"].startswith("agent.")]
    assert kinds == ["agent.register", "agent.deregister", "agent.register"]
    await engine.deliver("w1", 2, "two")
    await acked(engine, "w1", 2)
    await node.typed("w1", "one", "two")


async def test_a_new_agent_id_under_an_old_name_inherits_nothing(node, engine):
    """D12, F011."""
    await node.spawn("w1")
    await engine.deliver("w1", 1, "for the first")
    await acked(engine, "w1", 1)
    await node.api("DELETE", "/api/spawned/w1")
    former = engine.agents.pop("w1")
    await node.spawn("w1")
    await engine.deliver("w1", 2, "for the former", agent_id=former, delivery_id="del_x")
    await engine.deliver("w1", 1, "for the second", msg_id="N1")
    await node.typed("w1", "for the first", "for the second")
    await engine.frame("delivery.ack", count=2)
    assert [frame["up_to_seq"] for frame in engine.frames("delivery.ack")] == [1, 1]


async def test_killed_before_the_ack_nothing_is_typed_twice(node, engine):
    """S20, F032; the truncation at every byte is in tests/property/eventstore, the kills in tests/e2e."""
    await node.spawn("w1")
    for seq in range(1, 21):
        await engine.deliver("w1", seq, f"text {seq}")
    await node.until(lambda: node.notes("w1"), what="the first text")
    node.kill()
    await node.start()
    await engine.online(2)
    for seq in range(1, 21):
        await engine.deliver("w1", seq, f"text {seq}")
    await acked(engine, "w1", 20)
    await node.typed("w1", *[f"text {seq}" for seq in range(1, 21)])


async def test_a_task_with_a_line_that_looks_like_a_command_ends_no_agent(node, engine):
    """F090 SAFE-KEYS: typed text, and its echo, is never a command to the broker."""
    started = await node.spawn("w1", task="first\n/exit\n/quit\nlast")
    await node.until(lambda: node.notes("w1") == ["first /exit /quit last"], what="the task")
    await engine.deliver("w1", 1, "one\n/exit")
    await acked(engine, "w1", 1)
    await engine.deliver("w1", 2, "still here")
    await acked(engine, "w1", 2)
    await node.until(lambda: node.notes("w1")[-1].endswith(": still here"), what="the message after it")
    assert node.notes("w1")[1].endswith(": one /exit")
    (row,) = (await node.api("GET", "/api/spawned"))[1]["agents"]
    assert (row["pid"], node.log("worker.exited.v1"), engine.frames("agent.deregister")) == (started["pid"], [], [])
