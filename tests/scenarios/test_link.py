"""S1 to S4, S10 to S12, S17 and the node-link rows: the real broker against an engine that misbehaves."""

from __future__ import annotations

from tests.scripted_engine import error, ok, silence


def pauses(node):
    """How long the broker decided to wait before each dial, in seconds of its clock."""
    return [recorded.event.until - recorded.at for recorded in node.log("link.backed_off.v1")]


async def test_every_connection_begins_with_register_inventory_heartbeat(make_node, engine):
    """S1, N1, N2, N6, F053: order on each connection, beats in time, the delay starts again at its least."""
    node = make_node(rate=10)
    await node.start()
    await engine.online()
    await engine.until(lambda: len(engine.frames("node.heartbeat")) >= 4, what="four beats")
    for connection in (2, 3):
        await engine.drop()
        await engine.online(connection)
    assert [1 <= pause <= 2 for pause in pauses(node)] == [True, True]
    for connection in (1, 2, 3):
        kinds = [heard.frame["type"] for heard in engine.heard if heard.connection == connection]
        assert kinds[:3] == ["node.register", "inventory.sync", "node.heartbeat"]
        assert engine.frames("inventory.sync", connection=connection)[0]["agents"] == []
    ids = [heard.frame["id"] for heard in engine.heard]
    assert len(ids) == len(set(ids)), "N3"


async def test_five_rejected_tokens_are_replaced_and_the_sixth_ends_in_refused(make_node, engine):
    """S2, F048: five mints, then the 300 s probe, which mints nothing and brings the link up."""
    engine.handshakes = [401] * 6
    node = make_node(rate=60)
    await node.start()
    await node.until_link("refused")
    assert len(engine.requests("POST", "/v1/nodes")) == 6, "one at the start, five again"
    refused = await node.logged("link.refused.v1")
    assert refused.event.reason == "token_rejected"
    await engine.online(7)
    assert len(engine.requests("POST", "/v1/nodes")) == 6
    tokens = {asked.token for asked in engine.asked if asked.path == "/v1/nodes"}
    assert len(tokens) == 1


async def test_one_rejected_token_is_replaced_once(make_node, engine):
    """S2, k = 1."""
    engine.handshakes = [401]
    node = make_node(rate=10)
    await node.start()
    await engine.online(2)
    assert len(engine.requests("POST", "/v1/nodes")) == 2


async def test_rejections_between_other_failures_are_counted_all_the_same(make_node, engine):
    """S3."""
    engine.handshakes = [401, 503] * 5 + [401]
    node = make_node(rate=60)
    await node.start()
    await node.until_link("refused")
    assert len(engine.requests("POST", "/v1/nodes")) == 6
    assert min(pauses(node)) >= 1


async def test_a_name_that_another_node_has_is_left_to_it(make_node, engine):
    """S4, F043: the engine is asked before anything is minted; nobody's token is rotated."""
    engine.routes["GET /v1/nodes/desk"] = lambda _: (200, {"id": "node_of_somebody", "name": "desk"})
    node = make_node()
    await node.start()
    await engine.online()
    assert len(engine.requests("POST", "/v1/nodes")) == 1
    named = engine.frames("node.register")[0]["name"]
    assert named == f"desk-{engine.node_id.removeprefix('node_')[:8]}"
    assert (await node.api("GET", "/api/status"))[1]["node"]["name"] == named


async def test_a_silent_registration_goes_on_over_http_and_its_late_reply_ends_nothing(make_node, engine):
    """S10, R4: reply after 31 s, the fallback done meanwhile."""
    engine.answers["agent.register"] = silence
    node = make_node(rate=10)
    await node.start()
    await engine.online()
    answer = await node.spawn("w1")
    late = engine.frames("agent.register")[0]
    beats = len(engine.frames("node.heartbeat"))
    await engine.until(lambda: len(engine.frames("node.heartbeat")) >= beats + 3, what="half a minute later")
    await engine.send(type="reply", id=late["id"], ok=True, data=engine.registered("w1"))
    await node.logged("agent.token_rotated.v1")
    await engine.deliver("w1", 1, "still here")
    await node.typed("w1", "still here")
    assert engine.frames("agent.deregister") == []
    assert answer["agent_id"] == engine.agents["w1"]
    assert [asked.path for asked in engine.asked if asked.method == "POST" and "w1" in str(asked.body)] == [
        "/v1/agents",
        "/v1/nodes/desk/agents",
    ]


async def test_a_node_that_the_engine_does_not_know_mints_and_an_operators_token_ends_in_refused(make_node, engine):
    """S11, I3, F048."""
    refused_once = iter([error("node_id_mismatch")])
    engine.answers["node.register"] = lambda frame: next(refused_once, ok({"id": frame["node_id"]}))
    derived = make_node(rate=20)
    await derived.start()
    await engine.online(2)
    assert len(engine.requests("POST", "/v1/nodes")) == 2
    assert (await derived.logged("link.error_received.v1")).event.code == "node_id_mismatch"

    engine.answers["node.register"] = lambda _: error("node_id_mismatch")
    pinned = make_node(rate=20, RELAY_NODE_TOKEN="nt_live_of_the_operator")
    await pinned.start()
    link = await pinned.until_link("refused")
    assert "RELAY_NODE_TOKEN" in link["detail"]
    assert len(engine.requests("POST", "/v1/nodes")) == 2


async def test_unknown_keys_in_replies_change_nothing(make_node, engine):
    """S12, N11."""
    engine.answers["node.register"] = lambda frame: {**ok({"id": frame["node_id"], "weather": "fine"}), "x": 1}
    engine.answers["agent.register"] = lambda frame: ok(engine.registered(frame["name"]) | {"x": {"y": 1}})
    node = make_node()
    await node.start()
    assert (await node.spawn("w1"))["success"] is True


async def test_a_half_open_socket_is_closed_after_48_seconds(make_node, engine):
    """S17, F050: no bytes, no FIN."""
    node = make_node(rate=20)
    await node.start()
    await engine.online()
    engine.freeze()
    await engine.until(lambda: len(engine.dials) > 1, what="a second dial")
    engine.thaw()
    assert (await node.logged("link.backed_off.v1")).event.reason == "no_answer"
    await node.until_link("online")


async def test_pongs_alone_are_not_proof(make_node, engine):
    """F051: the socket answers pings, inventory.sync stays unanswered."""
    node = make_node(rate=20)
    await node.start()
    await engine.online()
    engine.answers["inventory.sync"] = silence
    await engine.until(lambda: len(engine.dials) > 1, what="a second dial")
    backed_off = await node.logged("link.backed_off.v1")
    assert backed_off.event.reason == "no_answer"
    assert "inventory.sync" in backed_off.event.detail


async def test_a_registration_without_an_answer_is_no_connection(make_node, engine):
    """F049, LIVE-LINK."""
    engine.answers["node.register"] = silence
    node = make_node(rate=20)
    await node.start()
    await engine.until(lambda: len(engine.dials) > 1, what="a second dial")
    status, health = await node.api("GET", "/health")
    assert (status, health["status"], health["relaycastConnected"]) == (200, "degraded", False)
    del engine.answers["node.register"]
    await node.until_link("online")
    assert (await node.logged("link.backed_off.v1")).event.reason == "no_answer"


async def test_a_refused_registration_shows_the_engines_code(make_node, engine):
    """F049."""
    engine.answers["node.register"] = lambda _: error("node_control_failed")
    node = make_node(rate=20)
    await node.start()
    link = await node.until_link("backing_off")
    assert "node_control_failed" in link["detail"]
    assert link["last_error"]["code"] == "node_control_failed"


async def test_a_start_never_waits_for_the_mint(make_node, engine):
    """F045: 30 s for the token; health answers at once, the session within 8 s, delivery begins later."""
    engine.routes["POST /v1/nodes"] = lambda _: (0, None)
    node = make_node()
    await node.start()
    status, session = await node.api("GET", "/api/session")
    assert (status, session["link"]["state"]) == (200, "minting")
    assert (await node.api("GET", "/health"))[1]["status"] == "degraded"
    assert (await node.api("GET", "/health"))[1]["link"]["state"] == "minting"


async def test_failed_mints_do_not_slow_the_first_reconnect(make_node, engine):
    """F046, F044."""
    statuses = iter([500, 503, 500])

    def enrol(asked):
        status = next(statuses, 201)
        return engine._fair_rest(asked) if status == 201 else (status, {"code": "internal"})

    engine.routes["POST /v1/nodes"] = enrol
    node = make_node(rate=10)
    await node.start()
    await engine.online()
    assert len(engine.requests("POST", "/v1/nodes")) == 4
    await engine.drop()
    await engine.online(2)
    assert 1 <= pauses(node)[-1] <= 2


async def test_a_superseded_socket_waits_before_it_dials_again(make_node, engine):
    """2.1: two processes must not kick each other in a tight loop."""
    node = make_node(rate=20)
    await node.start()
    await engine.online()
    await engine.drop(1000, "superseded")
    await engine.online(2)
    assert (await node.logged("link.backed_off.v1")).event.reason == "superseded"
    assert pauses(node)[-1] >= 30


async def test_an_agent_missing_from_the_engines_roster_is_restored_by_the_next_sync(make_node, engine):
    """F054, F053: every 60 s."""
    node = make_node(rate=30)
    await node.start()
    await engine.online()
    await node.spawn("w1")
    count = len(engine.frames("inventory.sync"))
    await engine.until(lambda: len(engine.frames("inventory.sync")) >= count + 2, what="two more syncs")
    assert [row["name"] for row in engine.frames("inventory.sync")[-1]["agents"]] == ["w1"]


async def test_every_frame_type_is_handled_or_counted(node, engine):
    """F058, F059, ALL-FRAMES."""
    await node.spawn("w1")
    for frame in (
        {"type": "context.update", "topic": "presence", "event": "agent.online", "data": {}},
        {"type": "takeover.requested", "agent": "w1"},
        {"type": "ping"},
        {"type": 7},
        {"v": 2, "type": "deliver"},
    ):
        await engine.send(**frame)
    await engine.deliver("w1", 1, "after all that")
    await node.typed("w1", "after all that")
    rejected = [recorded.event.reason for recorded in node.log("link.frame_rejected.v1")]
    assert rejected == ["unknown_frame", "bad_frame", "bad_version"]


async def test_a_stop_tells_the_engine_everything_within_its_limit(node, engine):
    """2.12, N9, F131."""
    await node.spawn("w1")
    await engine.deliver("w1", 1, "one")
    await engine.frame("delivery.ack")
    assert await node.stop() == 0
    kinds = [heard.frame["type"] for heard in engine.heard]
    assert kinds.index("agent.deregister") < kinds.index("node.deregister")
    assert kinds[-1] == "node.deregister"
