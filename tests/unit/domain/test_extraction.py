"""Reading payloads: every type of the contract, every pointer, and what nobody expects."""

from __future__ import annotations

import pytest

from relaybroker.domain.extraction import Class, classify, extract, is_self_echo

INJECTED = [
    "action.completed",
    "action.failed",
    "action.denied",
    "message.created",
    "message.received",
    "message.new",
    "message.sent",
    "message.delivered",
    "thread.reply",
    "thread.message.created",
    "thread.message.sent",
    "dm.received",
    "dm.created",
    "dm.new",
    "dm.sent",
    "dm.message.created",
    "direct_message.received",
    "direct_message.created",
    "direct_message.new",
    "direct_message.sent",
    "group_dm.received",
    "group_dm.created",
    "group_dm.new",
    "group_dm.sent",
    "group_dm.message.created",
]


@pytest.mark.parametrize("kind", ["", *INJECTED])
def test_every_listed_type_is_typed(kind):
    """D10, 4.9."""
    assert classify(kind) is Class.INJECT


@pytest.mark.parametrize("kind", ["message.reacted", "message.read"])
def test_receipts_are_recorded_only(kind):
    assert classify(kind) is Class.RECEIPT


@pytest.mark.parametrize(
    "kind", ["Message.Created", " message.created", "message.create", "action.invoked", "dm", "\x00"]
)
def test_every_other_string_is_unknown(kind):
    """4.9: exact and case-sensitive."""
    assert classify(kind) is Class.UNKNOWN


@pytest.mark.parametrize(
    "payload", [{"type": None}, {"type": 7}, {"type": ["message.read"]}, {}, [], "hi", 7, None, False]
)
def test_a_type_that_is_no_string_counts_as_none(payload):
    """D10."""
    assert extract(payload, "w1").cls is Class.INJECT


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        ({"data": {"text": " a "}, "text": "b"}, "a"),
        ({"data": {"text": " "}, "text": "b", "body": "c"}, "b"),
        ({"text": True, "body": 7}, "7"),
        ({"body": [], "content": 1.5}, "1.5"),
        ({"message": {"text": "m"}}, "m"),
        ({"payload": {"text": "p"}}, "p"),
        ({"type": "action.completed", "text": "t", "data": {"output": {"a": 1}}}, '{"a":1}'),
        ({"type": "action.completed", "data": {"output": False, "error": "e"}}, "false"),
        ({"type": "action.completed", "data": {"output": 0}}, "0"),
        ({"type": "action.completed", "data": {"output": []}}, "[]"),
        ({"type": "action.completed", "data": {"output": " kept "}}, " kept "),
        ({"type": "action.failed", "data": {"output": None, "error": {"code": 1}}}, '{"code":1}'),
        ({"type": "action.failed", "data": {"output": " ", "error": ""}}, "failed with no detail"),
        ({"type": "action.denied", "data": {"output": None}}, "failed with no detail"),
        ({"type": "action.completed", "data": {"output": None, "error": None}}, "completed with no output"),
        ({"type": "action.completed", "text": "t", "data": {"x": 1}}, '{"x":1}'),
        ({"type": "action.completed", "text": "t"}, '{"type":"action.completed","text":"t"}'),
        ({"data": {"output": 3}}, "3"),
        ({"data": [1]}, "[1]"),
        ({"data": None, "x": 1}, '{"data":null,"x":1}'),
        ("words", "words"),
        (" ", '[non-object payload] " "'),
        ([1, {"a": 2}], '[non-object payload] [1,{"a":2}]'),
        (None, "[non-object payload] null"),
    ],
)
def test_the_body_follows_the_pointers_and_then_the_body_rule(payload, body):
    """D11, 4.10, RV-G2."""
    assert extract(payload, "w1").body == body


@pytest.mark.parametrize(
    ("payload", "sender"),
    [
        ({"data": {"agent_name": "a", "from_name": "b"}}, "a"),
        ({"data": {"agent_name": " ", "from_name": "b"}}, "b"),
        ({"from": {"name": "x"}, "sender": "s"}, "s"),
        ({"author": 12}, "12"),
        ({"message": {"agent_name": "m", "from": "n"}}, "m"),
        ({"payload": {"from": "p"}, "data": {"message": {"agent_name": "q"}}}, "p"),
        ({"data": {"message": {"agent_name": "q"}}}, "q"),
        ({}, "relaycast"),
    ],
)
def test_the_sender_follows_the_pointers(payload, sender):
    assert extract(payload, "w1").sender == sender


@pytest.mark.parametrize(
    ("payload", "target"),
    [
        ({"target": "t", "to": "u"}, "t"),
        ({"to": "u", "data": {"channel_name": "general"}}, "u"),
        ({"recipient": "r"}, "r"),
        ({"message": {"target": "m", "channel": "c"}}, "m"),
        ({"data": {"channel_name": "general"}, "channel": "other"}, "#general"),
        ({"channel": "#general"}, "#general"),
        ({"message": {"channel": "c"}}, "#c"),
        ({"data": {"to": "ignored"}}, "w1"),
    ],
)
def test_the_target_follows_the_pointers(payload, target):
    assert extract(payload, "w1").target == target


@pytest.mark.parametrize(
    ("payload", "thread"),
    [
        ({"data": {"thread_id": "t", "parent_id": "p"}}, "t"),
        ({"threadId": 9, "data": {"parent_id": "p"}}, "9"),
        ({"data": {"parent_id": "p"}}, "p"),
        ({"thread_id": None}, ""),
    ],
)
def test_the_thread_follows_the_pointers(payload, thread):
    assert extract(payload, "w1").thread_id == thread


@pytest.mark.parametrize(
    ("payload", "priority"),
    [
        ({"data": {"priority": 0}}, 0),
        ({"data": {"priority": 256}, "priority": 255}, 255),
        ({"data": {"priority": True, "metadata": {"priority": " URGENT "}}}, 4),
        ({"data": {"priority": "high"}}, None),
        ({"data": {"priority": 1.0}, "metadata": {"priority": "low"}}, 1),
        ({"metadata": {"priority": "normal"}, "data": {"metadata": {"priority": "nonsense"}}}, 2),
        ({"priority": -1}, None),
    ],
)
def test_the_priority_is_a_number_or_else_a_label(payload, priority):
    assert extract(payload, "w1").priority == priority


@pytest.mark.parametrize(
    ("data", "echo"),
    [
        ({"agent_id": "100"}, True),
        ({"from_agent_id": "100"}, True),
        ({"agent_id": "7", "from_agent_id": "100"}, True),
        ({"agent_id": 100}, True),
        ({"agent_id": "7", "agent_name": "w1"}, False),
        ({"from_name": "w1"}, True),
        ({"from_name": "W1"}, False),
        ({}, False),
    ],
)
def test_an_agents_own_message_is_known_by_its_id_or_else_by_its_name(data, echo):
    """4.9 self-echo."""
    extracted = extract({"type": "message.sent", "data": data}, "w1")
    assert is_self_echo(extracted, "100", "w1") is echo


def test_a_message_without_author_is_no_echo_for_an_agent_that_is_called_like_the_default():
    extracted = extract({"type": "message.created", "data": {"text": "hello"}}, "relaycast")
    assert extracted.sender == "relaycast"
    assert not is_self_echo(extracted, "100", "relaycast")


def test_an_action_result_of_ones_own_is_no_echo():
    assert not is_self_echo(extract({"type": "action.completed", "data": {"agent_id": "100"}}, "w1"), "100", "w1")
