"""An agent goes on with what another one left, with real processes (local-api.md sections 5.1 and 5.5)."""

from __future__ import annotations

import json
import shlex
import stat
import sys

from tests.e2e.conftest import AGENTS

LEAVES = (
    "import json, os, sys, urllib.request\n"
    "request = urllib.request.Request(os.environ['RELAYBROKER_URL'] + '/api/agent/tools/save_continuity',"
    " json.dumps({'summary': 'beds are dug'}).encode(), {'Authorization': 'Bearer ' + os.environ['RELAY_AGENT_TOKEN']})\n"
    "print(urllib.request.urlopen(request).status, flush=True)\n"
    "notes = open(sys.argv[1], 'a', buffering=1)\n"
    "notes.writelines(sys.stdin)\n"
)


async def test_an_agent_goes_on_with_what_a_former_one_left(deployment):
    """Its task, its summary and its messages; also after the broker was killed, and from a file that another broker wrote."""
    leaves = deployment.folder / "leaves.py"
    leaves.write_text(LEAVES)
    first = deployment.folder / "ann.notes"
    cli = shlex.join([sys.executable, str(leaves), str(first)])
    status, answer = await deployment.api("POST", "/api/spawn", {"name": "ann", "cli": cli, "task": "plan the garden"})
    assert status == 200, answer
    deployment.sent["ann"] = []
    message_id = await deployment.post("ann", "mind the frost")
    await deployment.until(lambda: message_id in deployment.received("ann"), "it has the message")
    written = deployment.state / "continuity" / "ann.json"
    await deployment.until(written.exists, "the summary is copied")
    await deployment.api("DELETE", "/api/spawned/ann")
    await deployment.until(lambda: json.loads(written.read_text())["released_at"], "its end is copied")
    left = json.loads(written.read_text())
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert (left["summary"], left["initial_task"], left["lifetime_seconds"] > 0) == (
        "beds are dug",
        "plan the garden",
        True,
    )
    assert left["message_history"] == [{"from": "planner", "text": "mind the frost"}]

    written.unlink()
    deployment.kill_broker()
    await deployment.start()
    body = {"name": "bob", "task": "sow carrots", "continue_from": "ann"}
    notes = deployment.folder / "bob.notes"
    command = shlex.join([sys.executable, str(AGENTS / "note_taker.py"), str(notes)])
    status, answer = await deployment.api("POST", "/api/spawn", body | {"cli": command})
    assert status == 200, answer
    await deployment.until(lambda: notes.exists() and "sow carrots" in notes.read_text(), "it has its task")
    said = notes.read_text()
    assert [said.count(one) for one in ("plan the garden", "beds are dug", "- planner: mind the frost")] == [1, 1, 1]
    assert said.index("beds are dug") < said.index("## Current Task") < said.index("sow carrots")

    written.with_name("eve.json").write_text(
        json.dumps({"summary": "seeds are here", "message_history": [{"body": "hi"}]})
    )
    notes = deployment.folder / "dan.notes"
    command = shlex.join([sys.executable, str(AGENTS / "note_taker.py"), str(notes)])
    body = {"name": "dan", "cli": command, "continueFrom": "eve"}
    assert (await deployment.api("POST", "/api/spawn", body))[0] == 200
    await deployment.until(lambda: notes.exists() and "Go on with it." in notes.read_text(), "it goes on")
    assert "seeds are here" in notes.read_text()


async def test_nobody_goes_on_with_what_is_not_there(deployment):
    body = {"name": "bob", "cli": "cat"}
    for former, status, code in (("nobody", 404, "continuity_not_found"), ("../bob", 400, "invalid_name")):
        answered = await deployment.api("POST", "/api/spawn", body | {"continue_from": former})
        assert (answered[0], answered[1]["code"], answered[1]["field"]) == (status, code, "continue_from")
    assert (await deployment.status())["agents"] == []
