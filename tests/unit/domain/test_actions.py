"""The ledger of invocations: one execution, one result, who runs it."""

from __future__ import annotations

import msgspec
import pytest

from relaybroker.agents.harness import harness_of
from relaybroker.domain import effects, inputs
from relaybroker.domain.manifest import Manifest
from tests.world import SETTINGS


def invoke(world, invocation_id="inv_1", action="echo", given=None, **fields):
    world.frame(
        type="action.invoke", invocation_id=invocation_id, action=action, input={} if given is None else given, **fields
    )


def results(world, invocation_id="inv_1"):
    return [
        frame.get("output", frame.get("error"))
        for frame in world.sent("action.result")
        if frame["invocation_id"] == invocation_id
    ]


def asked(world):
    return [effect for effect in world.effects if isinstance(effect, effects.InvokeHandler)]


def connect(world, connection="k1", names=("echo",)):
    world.tell(inputs.SidecarConnected(connection=connection))
    world.tell(inputs.HandlersOffered(connection=connection, request_id=f"h_{connection}", names=tuple(names)))


def finish(world, connection="k1", invocation_id="inv_1", **result):
    world.tell(inputs.HandlerFinished(connection=connection, request_id="f1", invocation_id=invocation_id, **result))


# --- the broker's own --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "given", "cli"),
    [
        ("spawn:codex", {"name": "w1"}, "codex"),
        ("spawn:codex", {"agent": "w1", "model": "m", "args": ["--x"]}, "codex"),
        ("spawn", {"name": "w1", "cli": "aider"}, "aider"),
        ("spawn:x", {"agent": {"name": "w1", "command": "goose"}}, "goose"),
        ("spawn:x", {"name": "w1", "cli": "  ", "provider": "droid"}, "droid"),
    ],
)
def test_spawn_reads_name_and_program_from_wherever_they_stand(make_world, action, given, cli):
    """S14, X4, F137."""
    world = make_world(msgspec.structs.replace(SETTINGS, capabilities=(f"spawn:{cli}",)))
    world.start()
    world.online()
    given.pop("model", None)
    invoke(world, action=action, given=given)
    assert world.broker.state.registration_of("w1").spec.cli == cli


def test_an_agent_id_stands_for_its_name(world):
    agent_id = world.spawn("w1")
    invoke(world, action="release", agent_id=agent_id)
    assert results(world) == [{"released": True, "name": "w1"}]


def test_what_remote_callers_may_not_set_is_named_and_not_read(world):
    """5.2: args and cwd only where the operator allows them; env never."""
    invoke(world, action="spawn:cat", given={"name": "w1", "args": ["-u"], "cwd": "/tmp", "env": {"A": "b"}})
    spec = world.broker.state.registration_of("w1").spec
    assert (spec.args, spec.cwd, spec.env) == ((), "", {})
    assert world.events("action.running.v1")[-1].event.unread == ("args", "cwd", "env")


def test_the_operator_may_allow_args_and_cwd(make_world):
    world = make_world(msgspec.structs.replace(SETTINGS, remote_args=True, capabilities=("spawn:cat", "spawn:pi")))
    world.broker._harness_of = harness_of
    world.start()
    world.online()
    config = {"command": "pi", "args": ["-v"], "sessionId": "s-1"}
    invoke(world, action="spawn:cat", given={"name": "w1", "cwd": "/tmp", "agent": {"harnessConfig": config}})
    spec = world.broker.state.registration_of("w1").spec
    assert (spec.cli, spec.args, spec.cwd, spec.session_ref) == ("pi", ("-v",), "/tmp", "s-1")
    assert world.sent("agent.register")[-1]["session_ref"] == "s-1"


@pytest.mark.parametrize(
    ("action", "given", "error"),
    [
        ("spawn", {}, "spawn_missing_agent_name"),
        ("spawn", {"name": "w1"}, "spawn_missing_cli"),
        ("spawn:cat", {"name": "w1", "spawn_mode": "sideways"}, "spawn_failed"),
        ("spawn:cat", {"name": "w1", "harnessConfig": {"harnessId": "h"}}, "spawn_failed"),
        ("spawn:cat", {"name": "../x"}, "spawn_failed"),
        ("spawn:cat", {"name": "desk"}, "spawn_failed"),
        ("release", {}, "release_missing_agent_name"),
        ("release", {"name": "nobody-ever"}, "release_failed"),
        ("nobody", {}, "handler_unavailable"),
        ("spawn:cat", "no object", "spawn_missing_agent_name"),
    ],
)
def test_each_refusal_has_its_string_and_leaves_nothing(world, action, given, error):
    """F141, X2, CLEAN-FAIL."""
    invoke(world, action=action, given=given)
    assert results(world) == [error]
    assert world.broker.state.registrations == {}
    assert world.sent("agent.register") == []


def test_the_release_of_an_agent_that_is_gone_already_is_no_error(world):
    world.spawn("w1")
    invoke(world, "i1", "release", {"name": "W1"})
    invoke(world, "i2", "release", {"name": "w1"})
    assert [result["released"] for name in ("i1", "i2") for result in results(world, name)] == [True, True]


def test_a_spawn_whose_program_dies_at_once_is_an_error(world):
    """F136, X3."""
    invoke(world, action="spawn:cat", given={"name": "w1"})
    world.accept("w1")
    session = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramExited, session, code=1, signal=None, last_output="boom", uptime_s=0.1, requested=False)
    assert results(world) == ["spawn_failed"]
    assert "boom" in world.events("action.done.v1")[-1].event.detail


def test_success_is_said_only_for_the_worker_of_this_invocation(world):
    """F138, X3: the name is taken by another."""
    world.spawn("w1")
    invoke(world, action="spawn:cat", given={"name": "w1"})
    assert results(world) == ["spawn_failed"]
    assert world.events("action.done.v1")[-1].event.reason == "agent_exists"


def test_spawn_release_spawn_of_one_name_runs_the_last(world):
    """F140."""
    invoke(world, "i1", "spawn:cat", {"name": "w1"})
    world.accept("w1")
    world.advance(0.3)
    invoke(world, "i2", "release", {"name": "w1"})
    invoke(world, "i3", "spawn:cat", {"name": "w1"})
    world.accept("w1")
    world.advance(0.3)
    assert results(world, "i3") == [{"spawned": True, "name": "w1"}]
    assert world.broker.state.registration_of("w1").generation == 2


def test_an_unanswered_spawn_fails_within_its_deadline(world):
    """X5: 25 s in total."""
    invoke(world, action="spawn:cat", given={"name": "w1"})
    world.advance(25.1)
    assert results(world) == ["spawn_failed"]


# --- results ------------------------------------------------------------------------------------------------------------


def test_a_result_that_the_session_may_have_swallowed_goes_out_once_more(world):
    """S13: unasked, when the session ended within 2 s after the write."""
    connect(world)
    invoke(world)
    finish(world, output={"a": 1})
    world.advance(1.5)
    world.drop()
    world.advance(3)
    world.online()
    assert results(world) == [{"a": 1}] * 2
    world.advance(3)
    world.drop()
    world.advance(3)
    world.online()
    assert results(world) == [{"a": 1}] * 2


def test_a_result_of_an_outage_is_sent_when_the_link_is_back(world):
    """X1, W-29."""
    connect(world)
    invoke(world)
    world.drop()
    finish(world, output=None)
    assert results(world) == []
    world.advance(3)
    world.online()
    assert results(world) == [None]


def test_the_same_result_is_sent_across_a_restart_and_nothing_runs_twice(world):
    """F139, X1."""
    connect(world)
    invoke(world)
    finish(world, error="no luck")
    world.crash()
    world.start()
    world.online()
    before = len(results(world))
    invoke(world)
    assert set(results(world)) == {"no luck"}
    assert len(results(world)) == before + 1
    assert len(asked(world)) == 1


def test_a_handler_that_ran_when_the_broker_died_is_not_run_again(world):
    """5.4: RUNNING at recovery."""
    connect(world)
    invoke(world)
    world.crash()
    world.start()
    world.online()
    assert results(world) == ["action_timeout"]
    connect(world, "k2")
    invoke(world)
    assert len(asked(world)) == 1
    world.assert_fold_is_live()


# --- sidecars -------------------------------------------------------------------------------------------------------------


def test_a_handler_gets_its_invocation_once_and_its_result_is_passed_on(world):
    connect(world)
    for _ in range(2):
        invoke(world, given={"text": "hi"})
    assert [(one.connection, one.name, one.input) for one in asked(world)] == [("k1", "echo", {"text": "hi"})]
    finish(world, output={"text": "hi"})
    assert results(world) == [{"text": "hi"}]
    assert world.replies["f1"].body == {"completed": True}


def test_a_handler_has_two_minutes_and_a_late_result_is_unknown(world):
    """5.4."""
    connect(world)
    invoke(world)
    world.advance(120.1)
    assert results(world) == ["action_timeout"]
    finish(world, output=1)
    assert world.replies["f1"].body["code"] == "unknown_invocation"
    assert len(results(world)) == 1


def test_a_sidecars_own_spawn_handler_wins(world):
    connect(world, names=("spawn:cat",))
    invoke(world, action="spawn:cat", given={"name": "w1"})
    assert len(asked(world)) == 1
    assert world.broker.state.registrations == {}


def test_a_sidecar_that_drops_is_waited_for(world):
    """5.1, W-18: never a raw program in place of the harness."""
    connect(world, names=("spawn:cat",))
    world.tell(inputs.SidecarClosed(connection="k1", detail="eof"))
    invoke(world, action="spawn:cat", given={"name": "w1"})
    world.advance(4)
    assert world.broker.state.registrations == {}
    connect(world, "k2", names=("spawn:cat",))
    assert [one.connection for one in asked(world)] == ["k2"]


def test_after_the_grace_the_broker_spawns_itself(world):
    connect(world, names=("spawn:cat",))
    world.tell(inputs.SidecarClosed(connection="k1", detail="eof"))
    invoke(world, action="spawn:cat", given={"name": "w1"})
    world.advance(5.1)
    world.accept("w1")
    world.advance(0.3)
    assert results(world) == [{"spawned": True, "name": "w1"}]


def test_what_ran_on_a_lost_connection_is_given_back(world):
    """5.4: the engine may try elsewhere, and here again."""
    connect(world)
    invoke(world)
    world.tell(inputs.SidecarClosed(connection="k1", detail="eof"))
    assert results(world) == ["handler_unavailable"]
    connect(world, "k2")
    invoke(world)
    finish(world, "k2", output=2)
    assert results(world) == ["handler_unavailable", 2]


def test_a_newer_connection_takes_over_and_the_older_one_changes_nothing(world):
    """X6."""
    connect(world)
    invoke(world)
    connect(world, "k2", names=("other",))
    assert results(world) == ["handler_unavailable"]
    assert [e.connection for e in world.effects if isinstance(e, effects.CloseSidecar)] == ["k1"]
    world.tell(inputs.HandlersOffered(connection="k1", request_id="late", names=("echo",)))
    finish(world, "k1", output=1)
    world.tell(inputs.SidecarClosed(connection="k1", detail="eof"))
    assert world.broker.state.sidecar.handlers == ("other",)
    assert world.replies["late"].body["code"] == "connect_failed"
    assert results(world) == ["handler_unavailable"]


def test_the_heartbeat_says_whether_handlers_are_live(make_world):
    """2.7: told at once."""
    world = make_world(msgspec.structs.replace(SETTINGS, capabilities=()))
    world.start()
    world.online()
    world.advance(3)
    connect(world)
    world.advance(1.1)
    assert world.sent("node.heartbeat")[-1]["handlers_live"] is True
    world.tell(inputs.HandlersOffered(connection="k1", request_id="h2", names=()))
    world.advance(1.1)
    assert world.sent("node.heartbeat")[-1]["handlers_live"] is False
    assert world.replies["h2"].body == {"handlers_live": False}


def test_a_manifest_is_registered_when_the_engine_has_said_so(world):
    """7: the answer comes after the engine's."""
    connect(world)
    manifest = Manifest(name="fleet-1", max_agents=3, tags=("gpu",))
    world.tell(inputs.ManifestOffered(connection="k1", request_id="m1", manifest=manifest))
    register = world.sent("node.register")[-1]
    assert (register["name"], register["max_agents"], register["tags"]) == ("fleet-1", 3, ["gpu"])
    assert "m1" not in world.replies
    world.frame(type="reply", id=register["id"], ok=True, data={})
    assert world.replies["m1"].body == {"registered": True}
    world.advance(12)
    assert world.sent("node.heartbeat")[-1]["max_agents"] == 3


def test_a_refused_manifest_is_an_error_and_the_former_one_stands(world):
    connect(world)
    world.tell(inputs.ManifestOffered(connection="k1", request_id="m1", manifest=Manifest(name="taken")))
    register = world.sent("node.register")[-1]
    world.frame(type="error", id=register["id"], ok=False, code="node_name_conflict", message="taken")
    assert world.replies["m1"].body["message"].startswith("node_name_conflict")
    assert world.broker.state.link.state == "online"
    assert world.broker.state.node_name == SETTINGS.node_name


def test_a_manifest_of_an_outage_is_stored_and_registered_later(world):
    world.drop()
    connect(world)
    world.tell(inputs.ManifestOffered(connection="k1", request_id="m1", manifest=Manifest(name="fleet-1")))
    assert world.replies["m1"].body == {"registered": True}
    world.advance(3)
    world.online()
    assert world.sent("node.register")[-1]["name"] == "fleet-1"


def test_a_manifest_whose_answer_is_cut_off_counts_as_stored(world):
    connect(world)
    world.tell(inputs.ManifestOffered(connection="k1", request_id="m1", manifest=Manifest(name="fleet-1")))
    world.drop()
    assert world.replies["m1"].body == {"registered": True}
    world.assert_fold_is_live()


def test_deregistering_keeps_the_link_and_the_agents(world):
    """7, W-18: the broker goes back to its own manifest."""
    world.spawn("w1")
    connect(world)
    world.tell(inputs.ManifestOffered(connection="k1", request_id="m1", manifest=Manifest(name="fleet-1")))
    world.tell(inputs.NodeLeft(connection="k1", request_id="d1"))
    assert world.replies["d1"].body == {"deregistered": True}
    assert world.sent("node.register")[-1]["name"] == SETTINGS.node_name
    assert world.broker.state.link.state == "online"
    world.deliver("w1", 1)
    assert world.acks("w1") == [1]


def starts(world):
    return [effect for effect in world.effects if isinstance(effect, effects.StartSidecar)]


def supervised(world, **policy):
    connect(world)
    how = inputs.Supervision(argv=("fleet", "run"), cwd="/srv", policy=inputs.RestartPolicy(**policy))
    world.tell(inputs.ManifestOffered(connection="k1", request_id="m1", manifest=Manifest(), supervision=how))


def test_a_supervised_program_is_started_again_with_growing_pauses_and_given_up(world):
    """7: max 3 consecutive failures; 2, 4, 8 s."""
    supervised(world)
    world.tell(inputs.SidecarClosed(connection="k1", detail="eof"))
    for number, pause in enumerate((2, 4, 8), 1):
        world.advance(pause - 0.1)
        assert len(starts(world)) == number - 1
        world.advance(0.2)
        assert len(starts(world)) == number
        world.tell(inputs.SidecarProcessEnded(detail="exit status 1"))
    world.advance(100)
    assert len(starts(world)) == 3
    assert len(world.events("sidecar.supervision_ended.v1")) == 1
    world.assert_fold_is_live()


def test_a_start_counts_as_success_after_ten_good_seconds(world):
    supervised(world)
    for number in range(2, 5):
        world.tell(inputs.SidecarClosed(connection=f"k{number - 1}", detail="eof"))
        world.advance(2.1)
        assert len(starts(world)) == number - 1
        connect(world, f"k{number}")
        world.advance(10.1)


def test_a_program_that_comes_back_by_itself_is_not_started(world):
    supervised(world)
    world.tell(inputs.SidecarClosed(connection="k1", detail="eof"))
    world.advance(1)
    connect(world, "k2")
    world.advance(60)
    assert starts(world) == []


def test_the_total_of_restarts_is_bounded(world):
    """7: max_restarts."""
    supervised(world, max_restarts=2)
    for number in range(2, 6):
        world.tell(inputs.SidecarClosed(connection=f"k{number - 1}", detail="eof"))
        world.advance(3)
        connect(world, f"k{number}")
        world.advance(11)
    assert len(starts(world)) == 2


def test_the_ledger_is_bounded(make_world, monkeypatch):
    """X5."""
    monkeypatch.setattr("relaybroker.domain.action.LEDGER_LIMIT", 20)
    world = make_world()
    world.start()
    world.online()
    connect(world)
    for number in range(50):
        invoke(world, f"i{number}")
        finish(world, invocation_id=f"i{number}", output=number)
    assert len(world.broker.state.actions) <= 20
    assert world.broker.state.unfinished == {}
    world.advance(25 * 3600)
    invoke(world, "last")
    assert len(world.broker.state.actions) == 1


# --- found by review --------------------------------------------------------------------------------------------------------


def test_a_result_whose_write_the_kill_may_have_cut_off_goes_out_again(world):
    """S13, X1: committed, then `kill -9`; the broker is back a minute later."""
    connect(world)
    invoke(world)
    finish(world, output=1)
    world.crash()
    world.now += 60
    world.start()
    world.online()
    assert results(world) == [1, 1]


def test_a_spawn_that_timed_out_leaves_no_agent_behind(world):
    """R2, X3: the caller heard `spawn_failed`; what starts later must not stay."""
    world.answers_starts = False
    invoke(world, action="spawn:cat", given={"name": "w1"})
    world.advance(14)
    world.answer("/v1/agents", 201, {"id": "700", "token": "sha256:a"})
    world.answer("/v1/nodes/vm-01234567/agents", 201, {"agent_id": "700", "node_id": world.settings.node_id})
    world.advance(11.1)
    assert results(world) == ["spawn_failed"]
    assert world.events("action.done.v1")[-1].event.reason == "action_timeout"
    session = world.broker.state.registration_of("w1").session_id
    assert any(isinstance(e, effects.StopProgram) and e.session_id == session for e in world.effects)
    world.report(inputs.ProgramExited, session, code=None, signal=15, last_output="", uptime_s=1.0, requested=True)
    assert [frame["name"] for frame in world.sent("agent.deregister")] == ["w1"]
    assert results(world) == ["spawn_failed"]


def test_a_blank_agent_name_is_none(world):
    """5.2: the first string that is not blank wins."""
    invoke(world, action="spawn:cat", given={"name": "w1"}, agent_name="  ")
    assert world.broker.state.registration_of("w1") is not None


@pytest.mark.parametrize("key", ["token", "agent_token", "agentToken"])
def test_a_token_that_a_remote_caller_brings_is_not_used(world, key):
    """3.2, W-38: nobody chooses an identity from afar."""
    given = {"name": "w1", key: "at_live_x", "agent": {"token": "at_live_y", "relay_key": "z", "api_key": "z"}}
    invoke(world, action="spawn:cat", given=given)
    assert world.broker.state.registration_of("w1").spec.supplied_token == ""
    assert "at_live_" not in str(world.sent("agent.register"))


@pytest.mark.parametrize("given", [{"cli": "cat -u"}, {"command": "dog"}, {"harnessConfig": {"command": "/bin/cat"}}])
def test_a_remote_caller_runs_only_what_the_node_offers_without_arguments(world, given):
    """5.2, local-api 11.6: otherwise `cli` would bring the arguments that `args` may not."""
    invoke(world, action="spawn:cat", given={"name": "w1"} | given)
    assert results(world) == ["spawn_failed"]
    assert world.events("action.done.v1")[-1].event.reason == "cli_not_allowed"
    assert world.broker.state.registrations == {}


@pytest.mark.parametrize(
    "given",
    [
        {"model": "--yolo"},
        {"model": "x --dangerously-bypass-approvals-and-sandbox"},
        {"model": "gpt\n5"},
        {"model": "m" * 200},
        {"agent": {"model": "-x"}},
        {"harnessConfig": {"sessionId": "--resume"}},
        {"channel": "a b"},
    ],
)
def test_no_value_of_a_remote_caller_becomes_an_option(make_world, given):
    """ADR-0018: `gemini --model --yolo` would run without asking anybody. Local callers are refused by the same rule."""
    world = make_world(msgspec.structs.replace(SETTINGS, capabilities=("spawn:claude",)))
    world.start()
    world.online()
    invoke(world, action="spawn:claude", given={"name": "w1", "cli": "claude"} | given)
    assert results(world) == ["spawn_failed"]
    assert world.broker.state.registrations == {}


def test_a_second_sidecar_that_comes_and_goes_does_not_end_the_patience_for_the_first(world):
    """5.1, W-18."""
    connect(world, names=("spawn:fancy",))
    world.tell(inputs.SidecarClosed(connection="k1", detail="eof"))
    world.tell(inputs.SidecarConnected(connection="k2"))
    world.tell(inputs.SidecarClosed(connection="k2", detail="eof"))
    invoke(world, action="spawn:fancy", given={"name": "w1"})
    assert results(world) == []
    connect(world, "k3", ("spawn:fancy",))
    assert [effect.connection for effect in asked(world)] == ["k3"]


def test_open_invocations_are_bounded(world, monkeypatch):
    """X5: a sidecar that answers nothing is given no more than this; the engine may try elsewhere."""
    monkeypatch.setattr("relaybroker.domain.action.MAX_OPEN", 5)
    connect(world)
    for number in range(7):
        invoke(world, f"i{number}")
    assert len(asked(world)) == 5
    assert results(world, "i6") == ["handler_unavailable"]
    finish(world, invocation_id="i0", output=0)
    invoke(world, "i6")
    assert len(asked(world)) == 6


def test_an_invocation_that_was_given_back_may_run_here_later(world):
    """5.4: `handler_unavailable` is not cached."""
    invoke(world)
    assert results(world) == ["handler_unavailable"]
    connect(world)
    invoke(world)
    finish(world, output=1)
    assert results(world) == ["handler_unavailable", 1]
