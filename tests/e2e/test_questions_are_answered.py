"""ADR-0072: what a program asks is answered by name, from anywhere, and nothing is chosen that nobody named."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import sys
from pathlib import Path

from relaybroker.config.login import login_name

ASKS = Path(__file__).parent / "agents" / "asks.py"


async def command(deployment, *words):
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "relaybroker", *words, "--state-dir", str(deployment.state)],
        capture_output=True,
        text=True,
        check=False,
        env=deployment.environment(),
    )


async def spawn(deployment, name, *argv):
    status, answer = await deployment.api("POST", "/api/spawn", {"name": name, "cli": shlex.join(argv)})
    assert status == 200, answer


async def asks(deployment, name):
    """What an agent asks, as soon as it does."""
    for _ in range(2000):
        status, question = await deployment.api("GET", f"/api/spawned/{name}/question")
        if status == 200 and question["options"]:
            return question
        await asyncio.sleep(0.05)
    raise AssertionError(f"{name} asks nothing: {question}")


async def answer(deployment, name, option, **more):
    return await deployment.api("POST", f"/api/spawned/{name}/answer", {"option": option, "timeout_ms": 60_000} | more)


async def test_lists_letters_and_words_are_answered_and_nothing_else_is_chosen(deployment, tmp_path):
    log = tmp_path / "chosen"
    lines = lambda: log.read_text().splitlines() if log.exists() else []  # noqa: E731
    await spawn(
        deployment, "list", sys.executable, str(ASKS), str(log),
        "Do you trust this folder?|No, exit|Yes, I trust it|Yes, always",
        "Do you want to run it?|Yes|No",
        "*Do you want to go on?|Yes|No",
    )  # fmt: skip
    await spawn(
        deployment, "letters", "bash", "-c", 'read -n 1 -p "Delete it? [y/n] " said; echo "said=$said"; sleep 600'
    )
    await spawn(
        deployment, "words", "bash", "-c", 'read -p "Are you sure (yes/no)? " said; echo "said=$said"; sleep 600'
    )

    question = await asks(deployment, "list")
    assert question["text"] == ["Do you trust this folder?"]
    assert [(one["key"], one["label"], one["marked"]) for one in question["options"]] == [
        ("1", "No, exit", True), ("2", "Yes, I trust it", False), ("3", "Yes, always", False), ("esc", "cancel", False),
    ]  # fmt: skip

    for option, code in (("Yes", "unknown_option"), ("7", "unknown_option"), ("", "missing_field")):
        status, refused = await answer(deployment, "list", option)
        assert (status, refused["code"]) == (400, code)
    status, refused = await answer(deployment, "list", "2", question="something else")
    assert (status, refused["code"]) == (409, "question_changed")
    assert lines() == []

    shown = await command(deployment, "agent", "answer", "list")
    assert "Do you trust this folder?" in shown.stdout
    assert "  2  Yes, I trust it" in shown.stdout
    chosen = await command(deployment, "agent", "answer", "list", "2")
    assert (chosen.returncode, chosen.stdout) == (0, "list: chose 'Yes, I trust it'.\n")
    await deployment.until(lambda: lines() == ["Yes, I trust it"], "it was chosen")

    status, done = await answer(deployment, "list", "no")
    assert (status, done["option"]) == (200, "No")
    await deployment.until(lambda: lines() == ["Yes, I trust it", "No"], "it was chosen")

    status, refused = await answer(deployment, "list", "2")
    assert (status, refused["code"]) == (409, "question_changed"), "another list came under the key"
    assert lines() == ["Yes, I trust it", "No"]

    asked = json.loads((await command(deployment, "agent", "questions", "--json")).stdout)
    assert {one["name"]: [option["key"] for option in one["options"]] for one in asked} == {
        "list": ["1", "2", "esc"],
        "letters": ["y", "n"],
        "words": ["yes", "no"],
    }
    for name, option in (("letters", "n"), ("words", "yes")):
        status, done = await answer(deployment, name, option)
        assert (status, done["option"]) == (200, option)
        screen = (await deployment.api("GET", f"/api/spawned/{name}/snapshot"))[1]["screen"]
        assert f"said={option}" in screen

    await deployment.until_api(
        lambda status: [agent["name"] for agent in status["agents"] if agent["blocked_by"]] == ["list"],
        "the others ask nothing more",
    )
    status, refused = await answer(deployment, "words", "yes")
    assert (status, refused["code"]) == (409, "no_question")
    events = await deployment.until_events(lambda known: len(_answered(known)) == 4, "each answer is told")
    assert _answered(events) == [
        ("list", "Yes, I trust it"), ("list", "No"), ("letters", "n"), ("words", "yes"),
    ]  # fmt: skip
    facts = await command(deployment, "log", "grep", "--topic", "worker.question_answered.v1", "--json")
    answers = [json.loads(line)["body"] for line in facts.stdout.splitlines()]
    assert [(one["option"], one["by"]) for one in answers] == [
        ("Yes, I trust it", login_name()), ("No", "local API"), ("n", "local API"), ("yes", "local API"),
    ]  # fmt: skip


async def test_one_answer_is_given_once_and_what_was_not_taken_is_said(deployment, tmp_path):
    """Claude Code ignores an Enter in the first moment; and the same question asked again is another one."""
    chosen = {name: tmp_path / name for name in ("twice", "early", "deaf")}
    same = "Do you want to run it?|Yes|No"
    for name, questions in (("twice", (same, same)), ("early", (f"!{same}",)), ("deaf", (f"#{same}",))):
        await spawn(deployment, name, sys.executable, str(ASKS), str(chosen[name]), *questions)
    for name in chosen:
        await asks(deployment, name)
    status, done = await answer(deployment, "early", "1")
    assert (status, done["option"]) == (200, "Yes")
    assert chosen["early"].read_text() == "Yes\n"

    status, refused = await answer(deployment, "deaf", "No", timeout_ms=3000)
    assert (status, refused["code"]) == (409, "answer_not_taken")
    assert chosen["deaf"].read_text() == ""

    status, _ = await answer(deployment, "twice", "1", timeout_ms=3000)
    assert chosen["twice"].read_text() == "Yes\n", "the second question is not answered with the first"
    assert status in (200, 409)
    events = await deployment.until_events(lambda known: ("early", "Yes") in _answered(known), "it is told")
    assert ("deaf", "No") not in _answered(events)


def _answered(events):
    return [(one["name"], one["option"]) for one in events if one["kind"] == "agent_answered"]
