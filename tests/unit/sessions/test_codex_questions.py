"""ADR-0095: what Codex' server asks becomes a question with options, and an option becomes what its protocol wants."""

from __future__ import annotations

import asyncio

import pytest

from relaybroker.adapters.sessions import codex_app_server
from relaybroker.adapters.sessions.codex_app_server import CodexAppServer
from relaybroker.adapters.sessions.codex_questions import request
from relaybroker.adapters.sessions.door import QuestionGone
from relaybroker.adapters.sessions.rows import append
from tests.unit.sessions.codex_peer import CodexPeer
from tests.waiting import WAIT_S

COMMAND = "item/commandExecution/requestApproval"
CHOICE = "item/tool/requestUserInput"
AMEND = {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["git", "push"]}}
DENY = {"applyNetworkPolicyAmendment": {"network_policy_amendment": {"host": "example.org", "action": "deny"}}}
ASKED = {"threadId": "t1", "itemId": "call_1", "command": "git push", "cwd": "/work", "reason": "to share it"}
COLOURS = {"id": "c", "header": "Colour", "question": "Which?", "options": [{"label": "Red", "description": "warm"}]}


def test_a_permission_says_what_would_run_and_every_decision_is_an_option():
    one = request(
        7, COMMAND, ASKED | {"availableDecisions": ["accept", AMEND, DENY, "decline", "cancel", "unheard-of"]}
    )
    assert one is not None
    assert one.question.kind == "permission"
    assert one.question.text == ("Run this command?", "$ git push", "in /work", "Reason: to share it")
    assert [(option.label, option.kind) for option in one.question.options] == [
        ("Yes, once", "allow_once"),
        ("Yes, and do not ask again for commands that start with: git push", "allow_always"),
        ("No, and deny example.org from now on", "reject_always"),
        ("No, and go on without", "reject_once"),
        ("No, and stop", "reject_once"),
    ]
    results = [one.results[option.id] for option in one.question.options]
    assert results == [{"decision": decision} for decision in ("accept", AMEND, DENY, "decline", "cancel")]


def test_a_choice_is_answered_by_the_label_of_its_option():
    one = request(8, CHOICE, {"threadId": "t1", "itemId": "call_2", "questions": [COLOURS]})
    assert one is not None
    assert (one.question.kind, one.question.text) == ("question", ("Colour", "Which?"))
    assert [option.label for option in one.question.options] == ["Red (warm)"]
    assert one.results[one.question.options[0].id] == {"answers": {"c": {"answers": ["Red"]}}}


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("item/fileChange/requestApproval", ASKED),
        ("account/chatgptAuthTokens/refresh", ASKED),
        (COMMAND, ASKED | {"availableDecisions": ["unheard-of", {}, 3]}),
        (COMMAND, ASKED | {"availableDecisions": []}),
        (COMMAND, ASKED | {"threadId": 3}),
        (COMMAND, ASKED | {"itemId": None}),
        (CHOICE, ASKED | {"questions": [COLOURS, COLOURS]}),
        (CHOICE, ASKED | {"questions": [COLOURS | {"isSecret": True}]}),
        (CHOICE, ASKED | {"questions": [COLOURS | {"options": None}]}),
        (CHOICE, ASKED | {"questions": "?"}),
        (CHOICE, ASKED | {"questions": [COLOURS | {"options": [{"label": 3}, "x"]}]}),
    ],
)
def test_what_is_not_known_is_left_to_the_terminal(method, values):
    assert request(1, method, values) is None


# --- the door ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def peer(tmp_path):
    peer = CodexPeer(tmp_path)
    await peer.listen()
    peer.thread("t1")
    yield peer
    await peer.die()


@pytest.fixture
async def door(peer, tmp_path):
    notes = tmp_path / "notes.jsonl"
    append(notes, {"socket": str(peer.socket)})
    door = CodexAppServer(notes)
    await asyncio.wait_for(door.open(), WAIT_S)
    yield door
    await door.close()


async def until(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_question_is_told_while_it_stands_and_answered_by_its_option(peer, door):
    told = []
    door.on_change = lambda: told.append((door.state, door.question))
    await peer.ask(1, COMMAND, command="git push")
    await until(lambda: door.question)
    asked = door.question
    assert ("blocked", asked) in told
    assert door.state == "blocked"
    with pytest.raises(QuestionGone):
        await door.answer("another one", asked.options[0].id)
    with pytest.raises(QuestionGone):
        await door.answer(asked.id, "no option")
    assert peer.answered == []
    await door.answer(asked.id, asked.options[0].id)
    assert door.question is None
    assert door.state == "busy", "the server has not said so yet"
    await until(lambda: peer.answered == [(1, {"decision": "accept"})])
    await until(lambda: not peer.subscribers)
    with pytest.raises(QuestionGone):
        await door.answer(asked.id, asked.options[0].id)
    await peer.becomes("idle")
    await until(lambda: door.state == "idle")


async def test_what_somebody_answered_in_the_terminal_is_gone(peer, door):
    await peer.ask(1, COMMAND, command="git push")
    await until(lambda: door.question)
    await peer.resolve(1)
    await until(lambda: door.question is None)
    await until(lambda: door.state == "busy")
    assert peer.answered == []


async def test_several_questions_are_asked_one_behind_the_other(peer, door):
    await peer.ask(1, COMMAND, command="first")
    await until(lambda: door.question)
    await peer.ask(2, COMMAND, command="second")
    await until(lambda: len(door._asked) == 2)
    first = door.question
    assert "$ first" in first.text
    await door.answer(first.id, first.options[-1].id)
    assert "$ second" in door.question.text
    assert door.state == "blocked"
    await peer.resolve(2)
    await until(lambda: door.question is None)


async def test_a_thread_that_asks_again_is_asked_again_what_for(peer, door):
    for number in (1, 2):
        await peer.ask(number, COMMAND, command=f"number {number}")
        await until(lambda: door.question)
        await peer.resolve(number)
        await until(lambda: door.question is None and not peer.subscribers)


async def test_what_the_door_does_not_know_blocks_and_has_no_options(peer, door):
    await peer.ask(1, "item/fileChange/requestApproval")
    await until(lambda: peer.subscribers)
    await until(lambda: door.state == "blocked")
    assert door.question is None


async def test_a_server_that_lets_nobody_subscribe_leaves_the_question_to_its_terminal(peer, door):
    peer.refusals["thread/resume"] = {"code": -32600, "message": "not now"}
    await peer.ask(1, COMMAND, command="git push")
    await until(
        lambda: not door._following and ("thread/resume", {"threadId": "t1", "excludeTurns": True}) in peer.asked
    )
    assert door.state == "blocked"
    assert door.question is None


async def test_no_more_questions_than_a_bound_are_kept(peer, door, monkeypatch):
    monkeypatch.setattr(codex_app_server, "MAX_ASKED", 2)
    for number in range(4):
        await peer.ask(number, COMMAND, command=f"number {number}")
    await until(lambda: peer.subscribers and len(door._asked) == 2)
    await peer.ask(4, COMMAND, command="one more")
    await peer.resolve(0)
    await until(lambda: len(door._asked) == 1)


async def test_what_a_server_asked_that_died_is_not_asked_any_more(peer, door):
    told = []
    await peer.ask(1, COMMAND, command="git push")
    await until(lambda: door.question)
    asked = door.question
    door.on_change = lambda: told.append(door.question)
    await peer.die()
    await until(lambda: door.question is None)
    assert told
    with pytest.raises(QuestionGone):
        await door.answer(asked.id, asked.options[0].id)
