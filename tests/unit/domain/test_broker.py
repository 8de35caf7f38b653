"""The core's main job, on a small world around it."""

from __future__ import annotations

from relaybroker.domain import effects, inputs
from relaybroker.domain.delivery import MAX_WAITING
from relaybroker.domain.worker import READ_S


def test_a_delivered_message_is_typed_and_then_acknowledged(world):
    world.spawn("w1")
    world.deliver("w1", 1, text="build it")

    assert world.texts("w1") == ["Relay message from alice in #general [M1]: build it"]
    assert world.acks("w1") == [1]
    assert world.broker.state.counters.acked == 1
    world.assert_fold_is_live()


def test_nothing_is_acknowledged_before_the_host_reports_the_text(world):
    """F013 PROOF, ACK-FLOOR."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    assert world.acks("w1") == []

    world.type_next()
    assert world.acks("w1") == [1]


def test_a_broker_killed_before_the_ack_types_nothing_twice_and_acks_after_restart(world):
    """F032 TYPED-ONCE."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    world.crash()
    world.auto_type = True
    world.start()
    world.online()
    while world.pending_text:
        world.type_next()
    world.deliver("w1", 1)

    assert len(world.texts("w1")) == 1
    assert set(world.acks("w1")) == {1}
    world.assert_fold_is_live()


def test_frames_out_of_order_are_typed_in_order(world):
    """F007 held gap_wait; ACK-FLOOR, ORDER."""
    world.spawn("w1")
    for seq in (1, 2, 3):
        world.deliver("w1", seq, text=str(seq))
    world.deliver("w1", 5, text="5")
    assert world.acks("w1")[-1] == 3
    world.deliver("w1", 4, text="4")

    assert [text[-1] for text in world.texts("w1")] == ["1", "2", "3", "4", "5"]
    assert world.acks("w1")[-1] == 5


def test_a_hole_is_asked_for_twice_and_then_declared_lost(world):
    """F008, S6; D3."""
    world.spawn("w1")
    world.deliver("w1", 1)
    world.deliver("w1", 3, text="three")
    before = sum(frame["type"] == "node.register" for frame in world.frames)
    world.advance(11)

    assert sum(frame["type"] == "node.register" for frame in world.frames) == before + 2
    lost = world.events("mailbox.range_lost.v1")
    assert [(item.event.first, item.event.last) for item in lost] == [(2, 2)]
    assert world.texts("w1")[-1].endswith("three")
    assert world.acks("w1")[-1] == 3


def test_a_gap_filled_after_a_resync_keeps_the_order(world):
    """S6, variant."""
    world.spawn("w1")
    world.deliver("w1", 1)
    world.deliver("w1", 3, text="3")
    world.advance(2)
    world.deliver("w1", 2, text="2")
    world.advance(20)
    assert [text[-1] for text in world.texts("w1")][1:] == ["2", "3"]
    assert world.events("mailbox.range_lost.v1") == []


def test_an_agent_with_history_goes_on_at_its_next_number(world):
    """F003, S5, D3: without journal and engine cursor the first frame decides."""
    world.spawn("w1")
    world.deliver("w1", 8, text="eight")
    world.advance(1)
    assert world.texts("w1")[-1].endswith("eight")
    assert world.acks("w1") == [8]


def test_release_and_respawn_keep_the_cursor_of_the_agent_id(world):
    """F004, S18: deregister before register, then 2 is typed."""
    world.spawn("w1")
    world.deliver("w1", 1)
    world.tell(inputs.ReleaseRequested(request_id="rel", name="w1"))
    world.advance(READ_S)
    assert world.replies["rel"].body == {"success": True, "name": "w1", "existed": True}
    world.spawn("w1")
    world.deliver("w1", 2, text="two")

    kinds = [frame["type"] for frame in world.frames]
    assert kinds.index("agent.deregister") < len(kinds) - 1 - kinds[::-1].index("agent.register")
    assert world.texts("w1") == ["Relay message from alice in #general [M2]: two"]
    assert world.acks("w1")[-1] == 2


def test_a_fan_out_frame_never_moves_the_cursor(world):
    """F005, S7 SEQ0-APART; D4."""
    world.spawn("w1")
    payload = {"type": "message.reacted", "data": {"message_id": "M1", "emoji": "+1"}}
    world.deliver("w1", 0, msg_id="M1", delivery_id="evt_1", payload=payload)
    assert world.acks("w1") == []
    world.deliver("w1", 1)
    assert len(world.texts("w1")) == 1
    assert world.acks("w1") == [1]


def test_an_action_result_is_typed_once_however_often_it_comes(world):
    """F006, S15."""
    world.spawn("w1")
    payload = {"type": "action.completed", "data": {"invocation_id": "inv_9", "output": {"a": 1}}}
    for _ in range(2):
        world.deliver("w1", 0, msg_id="inv_9", delivery_id="evt_done", payload=payload)
    assert len(world.texts("w1")) == 1
    assert world.texts("w1")[0].endswith('{"a":1}')


def test_unknown_payload_types_are_counted_and_acknowledged(world):
    """F002 unknown_type."""
    world.spawn("w1")
    world.deliver("w1", 1, payload={"type": "something.new", "data": {}})
    assert world.texts("w1") == []
    assert world.acks("w1") == [1]
    assert [item.event.reason for item in world.events("delivery.dropped.v1")] == ["unknown_type"]


def test_a_poison_frame_takes_its_place_in_the_sequence(world):
    """S16 poison, and a mode nobody knows."""
    world.spawn("w1")
    world.deliver("w1", 1, mode="later")
    world.deliver("w1", 2, payload=None)
    world.deliver("w1", 3, text="three")
    assert world.acks("w1") == [1, 2, 3]
    assert [item.event.reason for item in world.events("delivery.dropped.v1")] == ["poison"]


def test_the_same_number_with_another_message_is_a_conflict(world):
    """F009 seq_conflict."""
    world.spawn("w1")
    world.deliver("w1", 1)
    acks = world.acks("w1")
    world.deliver("w1", 1, msg_id="OTHER")
    assert world.acks("w1") == acks
    assert len(world.texts("w1")) == 1
    assert world.events("mailbox.frame_ignored.v1")[-1].event.reason == "seq_conflict"


def test_a_known_message_under_the_next_number_advances_untyped(world):
    """D6."""
    world.spawn("w1")
    world.deliver("w1", 1, msg_id="M")
    world.deliver("w1", 2, msg_id="M", delivery_id="again")
    assert len(world.texts("w1")) == 1
    assert world.acks("w1")[-1] == 2


def test_a_stale_frame_repeats_the_acknowledgement(world):
    world.spawn("w1")
    world.deliver("w1", 1)
    world.deliver("w1", 1)
    assert world.acks("w1") == [1, 1]
    assert len(world.texts("w1")) == 1


def test_messages_wait_until_the_program_is_ready(world):
    """F091-style not_ready."""
    world.auto_ready = False
    world.spawn("w1")
    world.deliver("w1", 1)
    assert world.texts("w1") == []
    assert [item.event.reason for item in world.events("delivery.held.v1")] == ["not_ready"]
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramReady, session, evidence="prompt")
    assert len(world.texts("w1")) == 1


def test_a_program_whose_readiness_nobody_saw_is_reported_with_a_reason(world):
    """F093: listeners of former versions know the reason."""
    world.auto_ready = False
    world.spawn("w1")
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramReady, session, evidence="unverified")
    world.advance(1.0)
    (announcement,) = [body for body in world.notified if body["kind"] == "worker_ready"]
    assert (announcement["evidence"], announcement["reason"]) == ("unverified", "startup_timeout")


def test_only_the_task_of_a_spawn_is_asked_for_as_one(world):
    """ADR-0041: a shell is typed its task, and shown every message."""
    world.spawn("w1", task="make all")
    world.deliver("w1", 1)
    asked = [effect for effect in world.effects if isinstance(effect, effects.TypeText)]
    assert [(effect.text, effect.task) for effect in asked[:1]] == [("make all", True)]
    assert [effect.task for effect in asked[1:]] == [False]


def test_a_message_that_was_shown_is_acknowledged_with_that_evidence(world):
    """PROOF: nothing was typed, and that is what the log says."""
    world.auto_type = False
    world.spawn("w1")
    world.deliver("w1", 1)
    effect = world.pending_text.pop()
    world.report(
        inputs.TextTyped,
        effect.session_id,
        delivery_id=effect.delivery_id,
        attempt=effect.attempt,
        bytes_written=0,
        evidence="shown",
        wait_ms=0.0,
    )
    assert world.acks("w1") == [1]
    (injected,) = [item.event for item in world.events("delivery.injected.v1")]
    assert (injected.evidence, injected.bytes_written) == ("shown", 0)


def test_nothing_is_typed_into_a_dialog(world):
    """F094 blocked_by_dialog."""
    world.spawn("w1")
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramBlocked, session, pattern="trust")
    world.deliver("w1", 1)
    world.advance(600)
    assert world.texts("w1") == []
    world.report(inputs.ProgramUnblocked, session)
    assert len(world.texts("w1")) == 1


def test_an_initial_task_is_typed_once_the_program_is_ready(world):
    world.spawn("w1", task="first job")
    assert world.texts("w1") == ["first job"]
    assert world.acks("w1") == []


def test_an_exit_returns_open_messages_to_the_engine(world):
    """F024 worker_exited; ONE-OWNER."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    session = world.broker.state.registration_of("w1").session_id
    text = world.pending_text.pop()
    world.report(
        inputs.TextNotTyped, session, delivery_id=text.delivery_id, attempt=1, reason="worker_exited", typed="no"
    )
    world.report(inputs.ProgramExited, session, code=1, signal=None, last_output="boom", uptime_s=2.0, requested=False)
    dropped = world.events("delivery.dropped.v1")
    assert [(item.event.reason, item.event.settled) for item in dropped] == [("worker_exited", False)]
    assert world.acks("w1") == []
    assert world.frames[-1]["type"] == "agent.deregister" or world.frames[-2]["type"] == "agent.deregister"
    world.auto_type = True
    world.spawn("w1")
    world.deliver("w1", 1)
    assert len(world.texts("w1")) == 1
    assert world.acks("w1") == [1]


def test_a_lost_host_settles_what_was_in_the_terminal_by_policy(world):
    """F033 ambiguous, policy recorded."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    world.host_id, world.sessions, world.reports, world.unconfirmed = "host_2", {}, 0, []
    world.tell(inputs.HostLost(detail="eof"))
    world.advance(1)
    letters = world.events("delivery.dead_lettered.v1")
    assert [item.event.reason for item in letters] == ["ambiguous"]
    assert world.acks("w1") == [1]
    assert world.broker.state.registration_of("w1") is None
    assert any(item["kind"] == "agent_exited" and item["reason"] == "worker_lost" for item in world.notified)


def test_spawn_answers_when_the_program_has_survived_its_start(world):
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat -u")))
    world.accept("w1")
    assert "r1" not in world.replies
    world.advance(0.3)
    assert world.replies["r1"].status == 200
    assert world.replies["r1"].body["pid"] == 4711


def test_a_name_that_is_taken_is_refused_before_any_remote_effect(world):
    """R3, F138-style agent_exists."""
    world.spawn("w1")
    frames = len(world.frames)
    world.tell(inputs.SpawnRequested(request_id="r2", spec=inputs.SpawnSpec(name="W1", cli="cat")))
    assert (world.replies["r2"].status, world.replies["r2"].body["code"]) == (409, "agent_exists")
    assert len(world.frames) == frames


def test_an_instant_exit_fails_the_spawn_and_leaves_nothing(world):
    """F101, F104 CLEAN-FAIL."""
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="false")))
    world.accept("w1")
    session = world.broker.state.registration_of("w1").session_id
    world.report(
        inputs.ProgramExited, session, code=3, signal=None, last_output="no such file", uptime_s=0.1, requested=False
    )
    assert world.replies["r1"].status == 500
    assert "no such file" in world.replies["r1"].body["message"]
    assert world.broker.state.registration_of("w1") is None
    assert any(frame["type"] == "agent.deregister" for frame in world.frames)
    world.spawn("w1")


def test_a_refusal_by_the_engine_ends_the_spawn(world):
    """R9."""
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat")))
    request = world.frames[-1]
    world.frame(type="error", id=request["id"], ok=False, code="node_capacity_exceeded", message="full")
    assert (world.replies["r1"].status, world.replies["r1"].body["code"]) == (409, "registration_refused")
    assert "node_capacity_exceeded" in world.replies["r1"].body["message"]


def test_a_late_registration_is_undone(world):
    """R4, S10."""
    world.tell(inputs.SpawnRequested(request_id="r1", spec=inputs.SpawnSpec(name="w1", cli="cat")))
    world.advance(25)
    assert world.replies["r1"].status == 504
    world.accept("w1")
    assert world.frames[-1]["type"] == "agent.deregister"


def test_a_spawn_action_runs_once_and_reports_the_same_result(world):
    """F139, S13, S14."""
    for _ in range(2):
        world.frame(type="action.invoke", invocation_id="inv_1", action="spawn:cat", input={"name": "w2"})
    world.accept("w2")
    world.advance(0.3)
    world.frame(type="action.invoke", invocation_id="inv_1", action="spawn:cat", input={"name": "w2"})
    results = [frame for frame in world.frames if frame["type"] == "action.result"]
    assert [result["output"] for result in results] == [{"spawned": True, "name": "w2"}] * 2
    assert len([frame for frame in world.frames if frame["type"] == "agent.register"]) == 1


def test_an_action_without_a_handler_is_given_back_and_forgotten(world):
    world.frame(type="action.invoke", invocation_id="inv_1", action="echo", input={})
    assert world.frames[-1]["error"] == "handler_unavailable"
    assert world.broker.state.actions == {}


def test_release_by_action_answers_and_deregisters(world):
    world.spawn("w1")
    world.frame(type="action.invoke", invocation_id="inv_2", action="release", input={"name": "w1"})
    kinds = [frame["type"] for frame in world.frames]
    assert kinds.index("action.result") < kinds.index("agent.deregister")
    assert [frame["output"] for frame in world.frames if frame["type"] == "action.result"] == [
        {"released": True, "name": "w1"}
    ]


def test_reconnecting_repeats_register_inventory_heartbeat_in_that_order(world):
    """S1, N2."""
    world.spawn("w1")
    world.frames.clear()
    world.tell(inputs.LinkClosed(dial=world.broker.state.link.dial, code=1006, detail="eof"))
    world.advance(3)
    world.online()
    assert [frame["type"] for frame in world.frames[:3]] == ["node.register", "inventory.sync", "node.heartbeat"]
    assert [row["name"] for row in world.frames[1]["agents"]] == ["w1"]


def test_a_rejected_token_is_minted_again_a_bounded_number_of_times(make_world):
    """F048, S2: five re-mints, then refused."""
    world = make_world()
    world.start()
    mints = 0
    for _ in range(40):
        link = world.broker.state.link
        if link.state == "refused":
            break
        if link.state == "minting":
            mints += 1
            world.tell(
                inputs.EngineAnswered(
                    call_id=link.mint_call, status=201, data={"id": world.settings.node_id, "token": "sha256:1"}
                )
            )
        elif link.state == "connecting":
            world.tell(inputs.LinkDialFailed(dial=link.dial, status=401, detail="unauthorized"))
        else:
            world.advance(31)
    assert world.broker.state.link.state == "refused"
    assert mints == 5


def test_stopping_ends_agents_tells_the_engine_and_leaves(world):
    world.spawn("w1")
    world.tell(inputs.ShutdownRequested(reason="SIGTERM"))
    assert world.frames[-1]["type"] == "node.deregister"
    world.tell(inputs.LinkClosed(dial=world.broker.state.link.dial, code=1000, detail="closed"))
    assert world.exit is not None
    assert world.exit.status == 0
    world.assert_fold_is_live()


def test_a_message_from_a_person_is_published_as_the_broker(world):
    world.tell(inputs.SendRequested(request_id="s1", to="w9", text="hello", sender=""))
    call = world.effects[-1]
    assert (call.path, call.auth, call.body["to"]) == ("/v1/dm", "own", "w9")
    world.tell(inputs.EngineAnswered(call_id=call.call_id, status=201, data={"id": "77"}))
    assert world.replies["s1"].body["message_id"] == "77"


def test_an_accepted_message_survives_the_broker_and_keeps_its_key(world):
    """F034."""
    world.tell(inputs.SendRequested(request_id="s1", to="#general", text="hello", sender=""))
    first = world.effects[-1]
    world.crash()
    world.start()
    world.advance(0.1)
    calls = [e for e in world.effects if getattr(e, "idempotency_key", "")]
    assert [call.idempotency_key for call in calls] == [first.idempotency_key] * 2


def test_bad_frames_are_recorded_and_the_next_good_one_is_delivered(world):
    world.spawn("w1")
    dial = world.broker.state.link.dial
    world.tell(inputs.FrameUnreadable(dial=dial, reason="bad_json", size=3))
    world.tell(inputs.FrameUnreadable(dial=dial, reason="binary_frame", size=3))
    world.tell(inputs.FrameArrived(dial=dial, frame={"v": 2, "type": "deliver"}))
    world.tell(inputs.FrameArrived(dial=dial, frame={"v": 1}))
    world.tell(inputs.FrameArrived(dial=dial, frame={"v": 1, "type": "deliver", "agent": "w1"}))
    world.tell(inputs.FrameArrived(dial=dial, frame={"v": 1, "type": "brand.new"}))
    reasons = [item.event.reason for item in world.events("link.frame_rejected.v1")]
    assert reasons == ["bad_json", "binary_frame", "bad_version", "bad_frame", "no_identity", "unknown_frame"]
    world.deliver("w1", 1)
    assert world.acks("w1") == [1]


def test_a_channel_name_cannot_leave_its_place_in_an_engine_path(world):
    world.tell(inputs.SendRequested(request_id="s1", to="#../agents/x", text="hello", sender=""))
    assert world.effects[-1].path == "/v1/channels/..%2Fagents%2Fx/messages"


def test_data_that_the_engine_would_not_take_is_refused(world):
    """B15: never accepted and ignored."""
    world.tell(inputs.SendRequested(request_id="s1", to="w9", text="hello", sender="", data={"a": 1}))
    assert (world.replies["s1"].status, world.replies["s1"].body["code"]) == (501, "not_implemented")


def test_a_full_queue_refuses_the_newest_and_asks_again_when_there_is_room(world):
    """F020-style hold_full, for an agent that is not ready: nothing is lost, nothing is a gap."""
    world.auto_ready = False
    world.spawn("w1")
    for seq in range(1, 1030):
        world.deliver("w1", seq)
    assert [item.event.reason for item in world.events("mailbox.frame_ignored.v1")] == ["hold_full"] * 5
    world.advance(60)
    assert world.events("mailbox.range_lost.v1") == []
    session = world.broker.state.registration_of("w1").session_id
    registers = sum(frame["type"] == "node.register" for frame in world.frames)
    world.report(inputs.ProgramReady, session, evidence="prompt")
    assert sum(frame["type"] == "node.register" for frame in world.frames) == registers + 1
    for seq in range(1025, 1030):
        world.deliver("w1", seq)
    assert world.acks("w1")[-1] == 1029
    world.assert_fold_is_live()


def test_what_is_buffered_behind_a_gap_counts_as_waiting(world):
    """BOUNDED: a gap that closes makes no more messages wait than an agent may have, plus the one that closes it."""
    world.auto_ready = False
    world.spawn("w1")
    for seq in range(1, MAX_WAITING - 9):
        world.deliver("w1", seq)
    for seq in range(MAX_WAITING - 8, MAX_WAITING + 40):  # the one before them is missing
        world.deliver("w1", seq)
    ignored = [item.event.reason for item in world.events("mailbox.frame_ignored.v1")]
    assert set(ignored) == {"hold_full"}
    world.deliver("w1", MAX_WAITING - 9)
    [program] = world.broker.state.workers.values()
    assert len(program.waiting) == MAX_WAITING + 1


def _is_gone(world, name):
    """The program of this agent ended; the session id it had."""
    session = world.broker.state.registration_of(name).session_id
    world.report(inputs.ProgramExited, session, code=1, signal=None, last_output="", uptime_s=9.0, requested=False)
    return session


def test_a_program_that_runs_after_its_agent_ended_is_stopped(world):
    """R5 orphans: a start that was asked for again, after its failure, succeeded."""
    world.spawn("w1")
    session = _is_gone(world, "w1")
    world.report(inputs.ProgramStarted, session, pid=4712)
    assert world.effects[-1] == effects.StopProgram(session_id=session, grace_s=2.0, reason="orphan")


def test_a_program_whose_end_is_not_reported_is_killed(world):
    """R5 orphans: nobody would know of it."""
    world.spawn("w1")
    session = world.broker.state.registration_of("w1").session_id
    world.sessions.pop(session)
    world.tell(inputs.ReleaseRequested(request_id="r1", name="w1"))
    before = len(world.effects)
    world.advance(60)
    stops = [effect for effect in world.effects[before:] if isinstance(effect, effects.StopProgram)]
    assert [(stop.session_id, stop.grace_s) for stop in stops] == [(session, 0.0)]


def test_the_host_hears_that_a_report_is_known_before_what_follows_from_it(world):
    """ORDER: until then it takes what was sent before the broker knew for what it is, and refuses it."""
    world.spawn("w1")
    world.auto_type = False
    world.deliver("w1", 1)
    text = world.pending_text.pop()
    world.report(
        inputs.TextNotTyped, text.session_id, delivery_id=text.delivery_id, attempt=1, reason="out_of_turn", typed="no"
    )
    assert [type(effect).__name__ for effect in world.effects[-2:]] == ["ConfirmReports", "TypeText"]
