"""The node link: names, tokens, back-off, what the engine is told and when."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from relaybroker.domain import inputs
from relaybroker.domain.changes.link import ABANDONED_KEPT, abandon
from relaybroker.domain.manifest import Capability, Manifest
from relaybroker.domain.state import State
from tests.world import SETTINGS

OTHER = "node_ffffffffffffffffffffffffffffffff"


def grant(world, node_id=SETTINGS.node_id):
    call = world.broker.state.link.mint_call
    world.tell(inputs.EngineAnswered(call_id=call, status=201, data={"id": node_id, "token": "sha256:1"}))


def reject(world):
    world.tell(inputs.LinkDialFailed(dial=world.broker.state.link.dial, status=401, detail="unauthorized"))


def until_refused(world, turns=60):
    """401 to every dial; how many tokens were minted until the link was refused."""
    mints = 0
    for _ in range(turns):
        link = world.broker.state.link
        if link.state == "refused":
            return mints
        if link.state == "minting":
            mints += 1
            grant(world)
        elif link.state == "connecting":
            reject(world)
        else:
            world.advance(31)
    raise AssertionError(f"never refused: {world.broker.state.link}")


def test_a_refused_link_probes_every_five_minutes_with_the_token_it_has(make_world):
    """S2, F048: success ends the refusal, and nothing is minted for it."""
    world = make_world()
    world.start()
    assert until_refused(world) == 5
    calls = len(world.calls("/v1/nodes"))

    world.advance(299)
    assert world.broker.state.link.state == "refused"
    world.advance(2)
    assert world.broker.state.link.state == "connecting"
    world.online()
    assert world.broker.state.link.state == "online"
    assert len(world.calls("/v1/nodes")) == calls
    world.assert_fold_is_live()


def test_a_probe_that_is_rejected_asks_for_one_new_token_within_the_hours_budget(make_world):
    """ADR-0065: once a mint would work, the link comes up by itself."""
    world = make_world()
    world.start()
    assert until_refused(world) == 5
    for spent in range(6, 11):
        world.advance(301)
        assert until_refused(world) == 1
        assert len(world.calls("/v1/nodes")) == spent
    for _ in range(3):
        world.advance(301)
        assert until_refused(world) == 0, "the hour's budget is spent"
    world.advance(3600)
    reject(world)
    world.advance(31)
    grant(world)
    world.online()
    assert world.broker.state.link.state == "online"
    world.assert_fold_is_live()


def test_the_hour_of_a_new_token_begins_when_it_is_there(make_world):
    """I6: the engine that was away for half an hour before it minted does not let an eleventh token pass within the hour."""
    world = make_world()
    world.start()
    reject(world)
    world.advance(1800)
    grant(world)
    replaced_at = world.now
    assert world.broker.state.link.remint_times == [replaced_at]
    assert until_refused(world) == 4
    for _ in range(5):
        world.advance(301)
        assert until_refused(world) == 1
    while world.now + 301 < replaced_at + 3600:
        world.advance(301)
        assert until_refused(world) == 0, "ten tokens within the hour"
    world.assert_fold_is_live()


@pytest.mark.parametrize("spent", ["refused", "waiting"])
def test_a_person_has_the_node_enrolled_at_once(make_world, spent):
    """ADR-0065: what was spent before does not count."""
    world = make_world()
    world.start()
    if spent == "refused":
        until_refused(world)
    else:
        reject(world)
    world.tell(inputs.EnrolRequested(request_id="e1"))
    assert world.replies["e1"].body == {"success": True, "begun": True}
    assert world.broker.state.link.state in ("connecting", "minting")
    assert world.broker.state.link.remint_times == []
    if spent == "refused":
        assert until_refused(world) == 5
    world.assert_fold_is_live()


def test_a_link_that_is_up_is_left_as_it_is(world):
    world.tell(inputs.EnrolRequested(request_id="e1"))
    assert world.replies["e1"].body == {"success": True, "begun": False}
    assert world.broker.state.link.state == "online"


@pytest.mark.parametrize("rejections", [1, 5])
def test_a_token_that_is_replaced_in_time_brings_the_link_up(make_world, rejections):
    """S2."""
    world = make_world()
    world.start()
    for _ in range(rejections):
        reject(world)
        world.advance(31)
        grant(world)
    world.online()
    assert world.broker.state.link.state == "online"
    assert len(world.calls("/v1/nodes")) == rejections


def test_other_failures_do_not_refill_the_budget(make_world):
    """S3, RV-C10: 401 and 503 in turn end after five mints."""
    world = make_world()
    world.start()
    for _ in range(80):
        link = world.broker.state.link
        if link.state == "refused":
            break
        if link.state == "minting":
            grant(world)
        elif link.state == "connecting":
            status = 503 if link.dial % 2 else 401
            world.tell(inputs.LinkDialFailed(dial=link.dial, status=status, detail="no"))
        else:
            world.advance(31)
    assert world.broker.state.link.state == "refused"
    assert len(world.calls("/v1/nodes")) == 5


def test_tokens_are_replaced_at_most_ten_times_an_hour_over_good_sessions_too(make_world):
    """W-20: two brokers that take each other's token stop."""
    world = make_world()
    world.start()
    world.online()
    for _ in range(30):
        world.drop()
        world.advance(3)
        reject(world)
        if world.broker.state.link.state == "refused":
            break
        world.advance(31)
        grant(world)
        world.online()
    assert world.broker.state.link.state == "refused"
    assert len(world.calls("/v1/nodes")) == 10
    assert "10 times within the hour" in world.broker.state.link.detail


def test_an_operators_token_is_never_replaced(make_world):
    """I3, F048: refused at once, and it says what to do."""
    world = make_world(msgspec.structs.replace(SETTINGS, token_pinned=True))
    world.start()
    reject(world)
    assert world.broker.state.link.state == "refused"
    assert "RELAY_NODE_TOKEN" in world.broker.state.link.detail
    assert world.calls("/v1/nodes") == []


def test_mint_failures_are_retried_quickly_and_then_slower(make_world):
    """F044: 200, 400, 800 ms, doubling to 30 s."""
    world = make_world()
    world.start(has_node_token=False)
    delays = []
    for _ in range(10):
        call = world.broker.state.link.mint_call
        world.tell(inputs.EngineAnswered(call_id=call, status=500, code="internal", message="boom"))
        delays.append(world.broker.state.link.until - world.now)
        world.advance(delays[-1])
    assert delays[0] < 0.31
    assert all(earlier < later for earlier, later in pairwise(delays[:7]))
    assert max(delays) <= 30.0
    assert world.broker.state.link.base_delay == 1.0


@pytest.mark.parametrize("status", [400, 401, 402, 403, 405, 410, 413, 422])
def test_a_refused_enrolment_is_not_repeated(make_world, status):
    """F044: 4xx is tried once."""
    world = make_world()
    world.start(has_node_token=False)
    world.answer("/v1/nodes", status, code="forbidden", message="no such key")
    assert world.broker.state.link.state == "refused"
    assert str(status) in world.broker.state.link.detail


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_an_enrolment_that_may_succeed_later_is_repeated(make_world, status):
    """F044, 1.5: network, 5xx and the 4xx that speak of the moment."""
    world = make_world()
    world.start(has_node_token=False)
    world.answer("/v1/nodes", status, code="busy")
    assert world.broker.state.link.state == "backing_off"
    world.advance(0.31)
    assert len(world.calls("/v1/nodes")) == 2


def test_an_enrolment_may_take_its_time(make_world):
    """F045: an engine that always needs 30 s for a token is waited for, not asked again and again."""
    world = make_world()
    world.start(has_node_token=False)
    assert world.call("/v1/nodes").timeout_s >= 45.0


def test_a_chosen_name_that_another_node_has_is_made_distinct_before_anything_is_minted(make_world):
    """F043, S4: asking rotates nobody's token."""
    world = make_world(msgspec.structs.replace(SETTINGS, node_name="desk"))
    world.start(has_node_token=False)
    assert world.calls("/v1/nodes") == []
    world.answer("/v1/nodes/desk", 200, {"id": OTHER, "name": "desk"})
    assert world.call("/v1/nodes").body["name"] == "desk-01234567"
    grant(world)
    world.online()
    assert [frame["name"] for frame in world.sent("node.register")] == ["desk-01234567"]
    world.crash()
    world.start()
    world.online()
    assert world.frames[-1]["name"] == "desk-01234567" or world.sent("node.register")[-1]["name"] == "desk-01234567"
    world.assert_fold_is_live()


def test_a_chosen_name_that_is_free_is_kept(make_world):
    world = make_world(msgspec.structs.replace(SETTINGS, node_name="desk"))
    world.start(has_node_token=False)
    world.answer("/v1/nodes/desk", 404, code="node_not_found")
    assert world.call("/v1/nodes").body["name"] == "desk"


@pytest.mark.parametrize(
    "answer",
    [{"status": 201, "data": {"id": OTHER, "token": "sha256:9"}}, {"status": 409, "code": "node_name_conflict"}],
)
def test_an_enrolment_that_answers_for_another_node_is_made_once_more_under_a_distinct_name(make_world, answer):
    """1.5: the other node's token is not used."""
    world = make_world(msgspec.structs.replace(SETTINGS, node_name="desk"))
    world.start(has_node_token=False)
    world.answer("/v1/nodes/desk", 404)
    world.answer("/v1/nodes", **answer)
    assert world.call("/v1/nodes").body["name"] == "desk-01234567"
    world.answer("/v1/nodes", **answer)
    assert world.broker.state.link.state == "refused"


def test_a_name_conflict_at_registration_is_answered_with_a_distinct_name_once(make_world):
    world = make_world(msgspec.structs.replace(SETTINGS, node_name="desk"))
    world.start()
    world.tell(inputs.LinkOpened(dial=world.broker.state.link.dial))
    world.frame(
        type="error", id=world.sent("node.register")[-1]["id"], ok=False, code="node_name_conflict", message="x"
    )
    again = world.sent("node.register")[-1]
    assert again["name"] == "desk-01234567"
    kinds = [frame["type"] for frame in world.frames]
    assert kinds[-3:] == ["node.register", "inventory.sync", "node.heartbeat"], "what came before was said by nobody"
    assert world.frames[-1]["name"] == "desk-01234567"
    world.frame(type="error", id=again["id"], ok=False, code="node_name_conflict", message="x")
    assert world.broker.state.link.state == "refused"


@pytest.mark.parametrize("code", ["node_id_mismatch", "node_not_found"])
def test_a_node_that_the_engine_does_not_know_gets_a_new_token(make_world, code):
    """S11: derived mode mints within its budget."""
    world = make_world()
    world.start()
    world.tell(inputs.LinkOpened(dial=world.broker.state.link.dial))
    world.frame(type="error", id=world.sent("node.register")[-1]["id"], ok=False, code=code, message="who")
    assert world.broker.state.link.state == "backing_off"
    assert world.broker.state.link.last_error.code == code
    world.advance(31)
    assert world.broker.state.link.state == "minting"


def test_a_heartbeat_that_is_answered_with_a_wrong_node_ends_the_session(world):
    world.advance(12.1)
    beat = world.sent("node.heartbeat")[-1]
    world.frame(type="error", id=beat["id"], ok=False, code="node_id_mismatch", message="who")
    assert world.broker.state.link.state == "backing_off"
    assert world.broker.state.link.token_dead


def test_an_error_that_answers_nothing_known_is_visible_and_changes_nothing(world):
    """F043, W-25."""
    world.frame(type="error", id="nobody", ok=False, code="invalid_message", message="bad frame")
    assert world.broker.state.link.state == "online"
    assert world.broker.state.link.last_error.message == "bad frame"
    assert [body["code"] for body in world.notified if body["kind"] == "node_engine_error"] == ["invalid_message"]


def test_a_refused_inventory_is_tried_again_with_growing_pauses(world):
    """2.9: never in a loop."""
    world.answers_syncs = False
    world.advance(60)
    times = []
    for _ in range(5):
        sync = world.sent("inventory.sync")[-1]
        world.frame(type="error", id=sync["id"], ok=False, code="agent_location_conflict", message="elsewhere")
        before = len(world.sent("inventory.sync"))
        began = world.now
        while len(world.sent("inventory.sync")) == before:
            world.advance(0.5)
        times.append(world.now - began)
    assert times == [2.0, 4.0, 8.0, 16.0, 32.0]


def test_agents_that_the_engine_does_not_take_are_visible(world):
    """F054."""
    world.answers_syncs = False
    world.advance(60)
    sync = world.sent("inventory.sync")[-1]
    world.frame(
        type="reply", id=sync["id"], ok=True, data={"rejected_agents": [{"agent_id": "1", "reason": "mismatch"}]}
    )
    assert len(world.events("link.inventory_rejected.v1")) == 1


def test_a_changed_load_is_told_at_once_but_at_most_once_a_second(world):
    """2.7."""
    world.advance(5)
    before = len(world.sent("node.heartbeat"))
    for name in ("a", "b", "c"):
        world.spawn(name)
    assert len(world.sent("node.heartbeat")) == before + 1
    world.advance(1.1)
    assert len(world.sent("node.heartbeat")) == before + 2
    assert world.sent("node.heartbeat")[-1]["active_agents"] == 3


def test_an_inventory_waits_for_running_invocations(world):
    """3.6: a sync makes the engine start again what it does not list; 30 s at most."""
    world.spawn("w1")
    world.advance(1)
    world.frame(type="action.invoke", invocation_id="inv_1", action="spawn:cat", input={"name": "w2"})
    before = len(world.sent("inventory.sync"))
    world.frame(type="action.invoke", invocation_id="inv_2", action="release", input={"name": "w1"})
    assert len(world.sent("inventory.sync")) == before
    world.accept("w2")
    world.advance(1)
    assert [row["name"] for row in world.sent("inventory.sync")[-1]["agents"]] == ["w2"]
    assert len(world.sent("inventory.sync")) == before + 1


def test_a_manifest_that_comes_while_the_node_registers_is_registered_as_soon_as_that_is_answered(make_world):
    """N5, N7: the limit in heartbeats is the one that was registered last, and no manifest is kept to oneself."""
    world = make_world()
    world.start()
    world.tell(inputs.LinkOpened(dial=world.broker.state.link.dial))
    world.tell(inputs.SidecarConnected(connection="k1"))
    offered = Manifest(capabilities=(Capability("echo"),), max_agents=3)
    world.tell(inputs.ManifestOffered(connection="k1", request_id="m1", manifest=offered))
    assert len(world.sent("node.register")) == 1
    world.frame(type="reply", id=world.sent("node.register")[0]["id"], ok=True, data={})
    assert [frame["max_agents"] for frame in world.sent("node.register")] == [0, 3]
    world.frame(type="reply", id=world.sent("node.register")[-1]["id"], ok=True, data={})
    world.advance(13)
    assert world.sent("node.heartbeat")[-1]["max_agents"] == 3
    assert world.replies["m1"].body == {"registered": True}
    world.drop()
    world.advance(3)
    world.online()
    assert len(world.sent("node.register")) == 3, "the next connection registers it once"


def test_after_a_refused_manifest_the_node_registers_what_it_goes_on_with(world):
    """N5: the engine and the heartbeats agree about the limit."""
    world.tell(inputs.SidecarConnected(connection="k1"))
    for request_id, limit in (("m1", 3), ("m2", 5)):
        offered = Manifest(capabilities=(Capability("echo"),), max_agents=limit)
        world.tell(inputs.ManifestOffered(connection="k1", request_id=request_id, manifest=offered))
        asked = world.sent("node.register")[-1]["id"]
        if limit == 3:
            world.frame(type="reply", id=asked, ok=True, data={})
    world.frame(type="error", id=asked, ok=False, code="action_name_conflict", message="taken")
    assert world.replies["m2"].status == 409
    assert [frame["max_agents"] for frame in world.sent("node.register")] == [0, 3, 5, 0]
    world.frame(type="reply", id=world.sent("node.register")[-1]["id"], ok=True, data={})
    world.advance(13)
    assert world.sent("node.heartbeat")[-1]["max_agents"] == 0
    assert world.broker.state.link.state == "online"


def test_a_node_without_a_limit_has_no_load(world):
    """F056: 0 is in 0..1 and is taken by every engine version; the busiest node says the same as the idlest."""
    for name in ("a", "b", "c"):
        world.spawn(name)
    world.advance(12)
    beats = world.sent("node.heartbeat")
    assert {(type(beat["load"]), beat["load"]) for beat in beats} == {(float, 0.0)}
    assert beats[-1]["active_agents"] == 3


def test_more_agents_than_the_limit_are_a_load_of_one(make_world):
    """F056, N5: never above 1, or newer engines refuse the heartbeat and give the node no work."""
    world = make_world(msgspec.structs.replace(SETTINGS, max_agents=1))
    world.start()
    world.online()
    world.spawn("a")
    world.spawn("b")
    world.advance(12)
    assert world.sent("node.heartbeat")[-1]["load"] == 1.0


def test_a_registration_that_is_accepted_late_delays_no_heartbeat(make_world):
    """N6: 12 s after the one of the bring-up, not after the reply."""
    world = make_world()
    world.start()
    world.tell(inputs.LinkOpened(dial=world.broker.state.link.dial))
    opened = world.now
    world.advance(9)
    world.frame(type="reply", id=world.sent("node.register")[0]["id"], ok=True, data={})
    assert len(world.sent("node.heartbeat")) == 1
    while len(world.sent("node.heartbeat")) == 1:
        world.advance(0.1)
    assert world.now - opened <= 12.11


def test_requests_that_nobody_waits_for_are_remembered_up_to_a_bound():
    """N8: 1024, the newest."""
    state = State()
    for number in range(ABANDONED_KEPT + 100):
        abandon(state, f"r{number}", "agent:a:1")
    assert len(state.link.abandoned) == 1024
    assert next(iter(state.link.abandoned)) == "r100"


def test_load_follows_the_agent_limit(make_world):
    """N5."""
    world = make_world(msgspec.structs.replace(SETTINGS, max_agents=4))
    world.start()
    world.online()
    world.spawn("a")
    world.advance(12)
    beat, register = world.sent("node.heartbeat")[-1], world.sent("node.register")[-1]
    assert (beat["load"], beat["max_agents"], beat["active_agents"]) == (0.25, 4, 1)
    assert register["max_agents"] == 4


def test_newer_engines_are_recognised_by_their_reply_and_asked_for_the_cursor(make_world):
    """2.13: 6.0 and later."""
    world = make_world(msgspec.structs.replace(SETTINGS, capabilities=("spawn:claude",)))
    world.start()
    world.tell(inputs.LinkOpened(dial=world.broker.state.link.dial))
    accepted = [{"name": "spawn:claude", "kind": "spawn", "accepted": False, "reason": "quota"}]
    world.frame(
        type="reply",
        id=world.sent("node.register")[-1]["id"],
        ok=True,
        data={"provider": "p1", "accepted_capabilities": accepted},
    )
    assert world.broker.state.link.not_accepted == ("spawn:claude: quota",)
    assert all(c["name"] != "relay:delivery-cursor-v1" for c in world.sent("node.register")[-1]["capabilities"])
    world.drop()
    world.advance(3)
    world.online()
    assert {"name": "relay:delivery-cursor-v1", "kind": "capacity"} in world.sent("node.register")[-1]["capabilities"]


def test_the_manifest_never_holds_a_bare_spawn(world):
    """F057."""
    world.tell(inputs.SidecarConnected(connection="k1"))
    offered = Manifest(capabilities=(Capability("spawn"), Capability("spawn:x", "spawn"), Capability("echo")))
    world.tell(inputs.ManifestOffered(connection="k1", request_id="m1", manifest=offered))
    assert [c["name"] for c in world.sent("node.register")[-1]["capabilities"]] == ["spawn:cat", "spawn:x", "echo"]


def test_an_address_that_is_none_is_a_configuration_error(make_world):
    world = make_world()
    world.start()
    world.tell(inputs.LinkDialFailed(dial=world.broker.state.link.dial, status=None, detail="bad_address"))
    assert world.broker.state.link.state == "refused"


def test_a_spawn_on_a_refused_link_says_why_at_once(make_world):
    """N7."""
    world = make_world(msgspec.structs.replace(SETTINGS, token_pinned=True))
    world.start()
    reject(world)
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat")))
    assert world.replies["r1"].status == 503
    assert "RELAY_NODE_TOKEN" in world.replies["r1"].body["message"]


def test_a_spawn_without_a_link_is_answered_within_five_seconds(make_world):
    """F047: nothing piles up."""
    world = make_world()
    world.start()
    for number in range(20):
        world.tell(inputs.SpawnRequested(request_id=f"r{number}", spec=inputs.SpawnSpec(name=f"w{number}", cli="cat")))
    world.advance(5.1)
    assert {world.replies[f"r{number}"].status for number in range(20)} == {503}
    assert "node_control_disconnected" in world.replies["r0"].body["message"]
    assert world.broker.state.registrations == {}
    world.online()
    assert world.sent("agent.register") == []


def test_a_type_that_nobody_knows_is_announced_once_and_counted_every_time(world):
    """2.2, F058, F059."""
    for _ in range(5):
        world.frame(type="takeover.requested")
    world.frame(type="node.spawn")
    for _ in range(2):
        world.frame(v=2, type="deliver")
    announced = [
        (body["frame_type"], body["reason"]) for body in world.notified if body["kind"] == "node_frame_rejected"
    ]
    assert announced == [
        ("takeover.requested", "unknown_frame"),
        ("node.spawn", "unknown_frame"),
        ("deliver", "bad_version"),
    ]
    assert len(world.events("link.frame_rejected.v1")) == 8
    assert world.broker.state.counters.frames_rejected == 8


def test_invented_types_without_end_fill_no_memory(world):
    """BOUNDED."""
    for number in range(1000):
        world.frame(type=f"t{number}")
    assert len(world.broker.state.link.rejected) <= 256
    assert len([body for body in world.notified if body["kind"] == "node_frame_rejected"]) <= 256
    world.assert_fold_is_live()


def test_what_the_engine_could_not_deliver_becomes_an_event_for_the_sender(world):
    """F058."""
    agent_id = world.spawn("w1")
    data = {"delivery_id": None, "message_id": "77", "target_agent_name": "bob", "reason": "depth_cap"}
    world.frame(type="context.update", topic="agent", event="delivery.failed", agent_ids=[agent_id], data=data)
    announced = [body for body in world.notified if body["kind"] == "message_delivery_failed"]
    assert [(body["from"], body["to"], body["event_id"], body["lastError"]) for body in announced] == [
        ("w1", "bob", "77", "depth_cap")
    ]
