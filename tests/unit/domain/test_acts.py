"""What agents do in their own names: sends and acts of an agent that is known by its token (ADR-0048)."""

from __future__ import annotations

import pytest

from relaybroker.adapters.http.engine_calls import HttpCall
from relaybroker.domain import events, inputs
from relaybroker.domain.delivery import MAX_BODY_BYTES
from relaybroker.domain.rules import acts


def act(world, agent_id, act="join_channel", request_id="a1", **arguments):
    world.tell(
        inputs.ActRequested(
            request_id=request_id, agent_id=agent_id, act=act, arguments=arguments or {"channel": "lab"}
        )
    )


def send(world, agent_id, request_id="s1", to="#general", text="hello", **fields):
    world.tell(inputs.SendRequested(request_id=request_id, to=to, text=text, agent_id=agent_id, **fields))


def calls(world, prefix):
    return [one for one in world.effects if isinstance(one, HttpCall) and one.call_id.startswith(prefix)]


def answer(world, call, status=200, **fields):
    world.tell(inputs.EngineAnswered(call_id=call.call_id, status=status, **fields))


def kinds(world):
    return [type(one.event) for one in world.log]


def test_one_agent_cannot_fill_the_queue_of_messages_to_be_published(world, monkeypatch):
    monkeypatch.setattr("relaybroker.domain.message.MAX_OPEN_OF_AGENT", 3)
    flood, other = world.spawn("w1"), world.spawn("w2")
    for number in range(4):
        send(world, flood, request_id=f"s{number}")
    assert (world.replies["s3"].status, world.replies["s3"].body["code"]) == (429, "sender_quota")
    send(world, other, request_id="other")
    world.tell(inputs.SendRequested(request_id="person", to="#general", text="hello", sender="w1"))
    assert not {"other", "person"} & set(world.replies), "they are on their way"
    assert len(world.broker.state.messages) == 5


# --- acts -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "method", "path", "body"),
    [
        ("join_channel", {"channel": "#lab"}, "POST", "/v1/channels/lab/join", {}),
        ("leave_channel", {"channel": "a/b"}, "POST", "/v1/channels/a%2Fb/leave", {}),
        ("create_channel", {"name": "lab", "topic": "t"}, "POST", "/v1/channels", {"name": "lab", "topic": "t"}),
        ("create_channel", {"name": "lab"}, "POST", "/v1/channels", {"name": "lab"}),
        ("invite_to_channel", {"channel": "lab", "agent_name": "w2"}, "POST", "/v1/channels/lab/invite",
         {"agent_name": "w2"}),
        ("add_reaction", {"message_id": "7", "emoji": "👀"}, "POST", "/v1/messages/7/reactions", {"emoji": "👀"}),
        ("remove_reaction", {"message_id": "7", "emoji": "a/.."}, "DELETE", "/v1/messages/7/reactions/a%2F..", None),
        ("set_channel_topic", {"channel": "lab", "topic": ""}, "PATCH", "/v1/channels/lab/topic", {"topic": ""}),
        ("open_group", {"participants": ["a", "b"]}, "POST", "/v1/dm/group", {"participants": ["a", "b"]}),
        ("invoke_action", {"action": "echo", "input": {"n": 1}}, "POST", "/v1/actions/echo/invoke", {"input": {"n": 1}}),
        ("mark_message_read", {"message_id": ".."}, "POST", "/v1/messages/%2E%2E/read", {}),
    ],
)  # fmt: skip
def test_an_act_is_one_call_with_the_agents_own_token(world, name, arguments, method, path, body):
    agent_id = world.spawn("w1")
    act(world, agent_id, name, **arguments)
    (call,) = calls(world, "act_")
    assert (call.method, call.path, call.body, call.auth) == (method, path, body, f"agent:{agent_id}")
    answer(world, call, data={"ok": 1})
    assert (world.replies["a1"].status, world.replies["a1"].body) == (200, {"success": True, "data": {"ok": 1}})
    assert world.broker.state.acts == {}
    world.assert_fold_is_live()


def test_every_act_is_tried_above():
    assert set(acts.ACTS) == {
        "create_channel", "join_channel", "leave_channel", "invite_to_channel",
        "add_reaction", "remove_reaction", "mark_message_read", "set_channel_topic", "open_group", "invoke_action",
    }  # fmt: skip


def test_an_act_is_in_the_log_before_the_engine_is_asked_and_its_answer_before_the_caller_has_it(world):
    agent_id = world.spawn("w1")
    act(world, agent_id)
    assert kinds(world)[-1] is events.ActAsked
    answer(world, calls(world, "act_")[0], 404, code="channel_not_found", message="no such channel")
    assert kinds(world)[-1] is events.ActAnswered
    assert (world.replies["a1"].status, world.replies["a1"].body["code"]) == (404, "channel_not_found")


@pytest.mark.parametrize(
    ("status", "code", "refusal"),
    [
        (403, "not_a_member", (403, "not_a_member")),
        (401, "agent_token_invalid", (502, "engine_error")),
        (500, "internal_error", (502, "engine_error")),
    ],
)
def test_the_engines_refusal_is_told_with_its_code_where_the_caller_can_do_something_about_it(
    world, status, code, refusal
):
    act(world, world.spawn("w1"))
    answer(world, calls(world, "act_")[0], status, code=code)
    assert (world.replies["a1"].status, world.replies["a1"].body["code"]) == refusal


def test_an_engine_that_does_not_answer_is_said_to_be_away(world):
    act(world, world.spawn("w1"))
    world.tell(inputs.EngineUnanswered(call_id=calls(world, "act_")[0].call_id, detail="timeout"))
    assert (world.replies["a1"].status, world.replies["a1"].body["code"]) == (503, "engine_unavailable")
    assert world.replies["a1"].body["retryable"] is True


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("fly", {"channel": "x"}, "invalid_field"),
        ("join_channel", {"topic": "x"}, "missing_field"),
        ("add_reaction", {"message_id": "7"}, "missing_field"),
    ],
)
def test_an_act_that_is_none_or_lacks_something_asks_nobody(world, name, arguments, code):
    act(world, world.spawn("w1"), name, **arguments)
    assert (world.replies["a1"].status, world.replies["a1"].body["code"]) == (400, code)
    assert not calls(world, "act_")


def test_more_acts_than_may_wait_are_refused(world):
    agent_id = world.spawn("w1")
    for number in range(acts.MAX_OPEN):
        act(world, agent_id, request_id=f"a{number}")
    act(world, agent_id, request_id="late")
    assert (world.replies["late"].status, world.replies["late"].body["code"]) == (429, "queue_full")
    assert len(world.broker.state.acts) == acts.MAX_OPEN


def test_a_broker_that_died_meanwhile_says_in_the_log_that_the_act_has_no_answer(world):
    act(world, world.spawn("w1"))
    (call,) = calls(world, "act_")
    world.crash()
    world.start()
    (said,) = [one.event for one in world.log if isinstance(one.event, events.ActAnswered)]
    assert (said.call_id, said.status, said.code) == (call.call_id, 0, "broker_restarted")
    assert world.broker.state.acts == {}
    answer(world, call)
    assert kinds(world)[-1] is events.CallUnmatched
    world.assert_fold_is_live()


def test_an_answer_that_comes_after_the_agent_is_gone_is_told_all_the_same(world):
    act(world, world.spawn("w1"))
    session_id = world.broker.state.registration_of("w1").session_id
    world.report(inputs.ProgramExited, session_id, code=0, signal=None, last_output="", uptime_s=1.0, requested=False)
    answer(world, calls(world, "act_")[0], data=None)
    assert world.replies["a1"].status == 200
    assert world.broker.state.acts == {}


# --- whose ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["released", "ended", "never"])
def test_an_agent_that_is_not_registered_here_acts_and_sends_nothing(world, way):
    agent_id = world.spawn("w1")
    if way == "released":
        world.tell(inputs.ReleaseRequested(request_id="r", name="w1"))
    elif way == "ended":
        session_id = world.broker.state.registration_of("w1").session_id
        world.report(
            inputs.ProgramExited, session_id, code=0, signal=None, last_output="", uptime_s=1.0, requested=False
        )
    before = len(calls(world, ""))
    act(world, "777" if way == "never" else agent_id)
    send(world, "777" if way == "never" else agent_id)
    for request_id in ("a1", "s1"):
        assert (world.replies[request_id].status, world.replies[request_id].body["code"]) == (401, "unauthorized")
    assert len(calls(world, "")) == before or way == "released"
    assert world.broker.state.messages == {}


def test_an_agent_sends_as_itself_whatever_it_says(world):
    agent_id = world.spawn("w1")
    other = world.spawn("w2")
    send(world, agent_id, sender="w2")
    (call,) = calls(world, "publish_")
    assert call.auth == f"agent:{agent_id}" != f"agent:{other}"
    answer(world, call, 201, data={"id": "5"})
    assert world.replies["s1"].body["sent_as"] == "w1"


def test_a_key_belongs_to_its_agent(world):
    """Two agents and the operator may choose the same key."""
    first, second = world.spawn("w1"), world.spawn("w2")
    send(world, first, "s1", text="one", key="k")
    send(world, second, "s2", text="two", key="k")
    world.tell(inputs.SendRequested(request_id="s3", to="#general", text="three", key="k"))
    for call in calls(world, "publish_"):
        answer(world, call, 201, data={"id": call.body["text"]})
    assert [world.replies[f"s{n}"].body["message_id"] for n in (1, 2, 3)] == ["one", "two", "three"]
    send(world, first, "s4", text="one", key="k")
    assert world.replies["s4"].body["replayed"] is True
    assert len(calls(world, "publish_")) == 3
    world.assert_fold_is_live()


def test_a_text_beyond_the_limit_is_refused_before_it_is_sent(world):
    agent_id = world.spawn("w1")
    send(world, agent_id, "fits", text="é" * (MAX_BODY_BYTES // 2))
    send(world, agent_id, "not", text="é" * (MAX_BODY_BYTES // 2) + "x")
    assert (world.replies["not"].status, world.replies["not"].body["code"]) == (413, "body_too_large")
    assert len(calls(world, "publish_")) == 1


# --- threads --------------------------------------------------------------------------------------------------------------


def reply(world, agent_id, request_id="s1", text="yes", **fields):
    send(world, agent_id, request_id, to="thread:77", text=text, thread_id="77", **fields)


def test_a_reply_goes_to_its_thread(world):
    agent_id = world.spawn("w1")
    reply(world, agent_id)
    (call,) = calls(world, "publish_")
    assert (call.path, call.body) == ("/v1/messages/77/replies", {"text": "yes"})
    answer(world, call, 201, data={"id": "78"})
    assert world.replies["s1"].body["message_id"] == "78"
    assert world.replies["s1"].body["thread_used"] is True


def test_a_reply_to_a_message_that_does_not_exist_goes_nowhere_else(world):
    agent_id = world.spawn("w1")
    reply(world, agent_id)
    answer(world, calls(world, "publish_")[0], 404, code="message_not_found")
    assert (world.replies["s1"].status, world.replies["s1"].body["code"]) == (404, "message_not_found")
    assert len(calls(world, "publish_")) == 1
    assert world.broker.state.messages == {}
    world.assert_fold_is_live()


def test_replies_to_one_message_keep_their_order_over_an_outage(world):
    agent_id = world.spawn("w1")
    reply(world, agent_id, "s1", "first")
    world.tell(inputs.EngineUnanswered(call_id=calls(world, "publish_")[0].call_id, detail="refused"))
    reply(world, agent_id, "s2", "second")
    world.advance(1)
    answer(world, calls(world, "publish_")[-1], 201, data={"id": "78"})
    texts = [call.body["text"] for call in calls(world, "publish_")]
    assert texts == ["first", "first", "second"]


# --- keys -----------------------------------------------------------------------------------------------------------------


def keyed(world, agent_id, request_id="a1", **changes):
    wanted = {"act": "invoke_action", "arguments": {"action": "echo", "input": {"n": 1}}, "key": "k"} | changes
    world.tell(inputs.ActRequested(request_id=request_id, agent_id=agent_id, **wanted))


def test_the_same_key_again_is_answered_the_same_and_nothing_is_done(world):
    agent_id = world.spawn("w1")
    keyed(world, agent_id)
    keyed(world, agent_id, "a2")
    assert world.replies["a2"].body["code"] == "idempotency_in_progress"
    (call,) = calls(world, "act_")
    answer(world, call, status=201, data={"invocation_id": "inv_1"})
    keyed(world, agent_id, "a3")
    assert world.replies["a3"].body == world.replies["a1"].body | {"replayed": True}
    keyed(world, agent_id, "a4", arguments={"action": "echo", "input": {"n": 2}})
    assert world.replies["a4"].body["code"] == "idempotency_conflict"
    assert len(calls(world, "act_")) == 1
    world.assert_fold_is_live()


def test_a_key_is_its_agents_alone(world):
    for name in ("w1", "w2"):
        keyed(world, world.spawn(name))
    assert len(calls(world, "act_")) == 2


def test_whether_it_was_done_when_the_broker_died_is_said_to_be_unknown(world):
    agent_id = world.spawn("w1")
    keyed(world, agent_id)
    world.crash()
    world.start()
    keyed(world, agent_id, "a2")
    assert (world.replies["a2"].status, world.replies["a2"].body["code"]) == (409, "outcome_unknown")
    assert len(calls(world, "act_")) == 1
    world.assert_fold_is_live()


# --- results --------------------------------------------------------------------------------------------------------------


def submit(world, agent_id, request_id="r1", data=None, **fields):
    world.tell(inputs.ResultRequested(request_id=request_id, agent_id=agent_id, data=data, **fields))
    return world.replies[request_id]


def test_a_result_is_recorded_and_told_and_only_one_is_final(world):
    agent_id = world.spawn("w1")
    part = submit(world, agent_id, "r1", {"half": 1}, final=False)
    last = submit(world, agent_id, "r2", {"done": True}, metadata="m")
    announced = [body for body in world.notified if body["kind"] == "agent_result"]
    assert [(body["name"], body["data"], body["final"], body["result_id"]) for body in announced] == [
        ("w1", {"half": 1}, False, part.body["result_id"]),
        ("w1", {"done": True}, True, last.body["result_id"]),
    ]
    again = submit(world, agent_id, "r3", {"done": True}, metadata="m")
    assert again.body == last.body | {"replayed": True}
    for other in ({"data": {"done": False}}, {"data": {"done": True}, "final": False}):
        assert submit(world, agent_id, f"r{other}", **other).body["code"] == "result_already_final"
    assert submit(world, agent_id, "r9", "x" * 300_000).status in (409, 413)
    assert submit(world, "4711", "r10").status == 401
    world.assert_fold_is_live()
