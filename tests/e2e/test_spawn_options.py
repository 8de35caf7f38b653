"""What a spawn may ask for beside its command, with real processes: sessions, keys, permissions."""

from __future__ import annotations

import json

import aiohttp
import pytest

from tests.waiting import WAIT_S

CLAUDE = '#!/bin/sh\nprintf \'%s\\n\' "$@" > "$ARGUMENTS"; exec cat\n'


@pytest.fixture
def claude(tmp_path):
    """A program that is called claude and notes its arguments."""
    program = tmp_path / "programs" / "claude"
    program.parent.mkdir()
    program.write_text(CLAUDE)
    program.chmod(0o755)
    return program


async def spawned(deployment, claude, name, **more):
    """Status and answer of a spawn, and the arguments of its program."""
    noted = deployment.folder / f"{name}.arguments"
    body = {"name": name, "cli": str(claude), "env": {"ARGUMENTS": str(noted)}} | more
    status, answer = await deployment.api("POST", "/api/spawn", body)
    if status != 200:
        return status, answer, []
    await deployment.until(noted.exists, "it was started")
    return status, answer, noted.read_text().splitlines()


async def test_the_session_of_the_answer_is_the_programs_own_and_is_resumed(deployment, claude):
    """F114: behind the program's name, before what is the caller's; also after the broker was killed."""
    _, answer, arguments = await spawned(deployment, claude, "ann", args=["--add-dir", "a", "b"])
    session = answer["sessionId"]
    at = arguments.index("--session-id")
    assert (arguments[at + 1], arguments[-3:]) == (session, ["--add-dir", "a", "b"])
    await deployment.api("DELETE", "/api/spawned/ann")
    deployment.kill_broker()
    await deployment.start()
    _, answer, arguments = await spawned(deployment, claude, "bob", session_id=session, args=["--add-dir", "a", "b"])
    assert answer["sessionId"] == session
    assert arguments[arguments.index("--resume") + 1] == session
    status, answer = await deployment.api("POST", "/api/spawn", {"name": "eve", "cli": "cat", "session_id": session})
    assert (status, answer["field"]) == (400, "session_id")


async def test_a_spawn_is_repeated_by_its_key_without_a_second_program(deployment, claude):
    """U10: also when the broker was killed in between."""
    status, first, _ = await spawned(deployment, claude, "ann", idempotency_key="k")
    deployment.kill_broker()
    await deployment.start()
    again = await spawned(deployment, claude, "ann", idempotency_key="k")
    assert (status, again[1]) == (200, first | {"replayed": True})
    assert [one["pid"] for one in (await deployment.status())["agents"]] == [first["pid"]]


async def test_the_operator_says_who_may_bypass_permissions(make_deployment, claude, tmp_path):
    """The default lets a local caller who asks; `never` nobody, whatever way he asks."""
    for mode, allowed in (("explicit", True), ("never", False)):
        folder = tmp_path / mode
        folder.mkdir()
        made = make_deployment(folder, RELAYBROKER_PERMISSION_MODE=mode)
        made.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S))
        try:
            await made.start()
            status, answer, arguments = await spawned(made, claude, "ann", permission_mode="bypass")
            assert (status == 200, "--dangerously-skip-permissions" in arguments) == (allowed, allowed), json.dumps(
                answer
            )
            status, answer, _ = await spawned(made, claude, "bob", args=["--dangerously-skip-permissions"])
            assert (status == 200) is allowed
            assert allowed or (status, answer["code"]) == (403, "bypass_not_allowed")
        finally:
            await made.close()
