"""Published SDKs work against the embedded engine, unmodified (engine-contract.md section 12.1 and 12.2)."""

import pytest

pytestmark = pytest.mark.peers


async def test_the_npm_sdk_posts_receives_and_acknowledges(engine, npm_package, node_script):
    seen = await node_script("sdk.mjs", npm_package("@relaycast/sdk", "5.0.5"), ENGINE_URL=engine.base_url)
    assert seen["status"] == "online"
    assert seen["idempotent"] is True
    assert (seen["channel"]["message"]["text"], seen["channel"]["channel"]) == ("hello @ada", "ops")
    assert seen["channel"]["message"]["agentName"] == "bob"
    assert seen["observed"]["message"]["id"] == seen["channel"]["message"]["id"]
    assert (seen["dm"]["message"]["text"], seen["dm"]["message"]["injectionMode"]) == ("direct", "steer")
    assert (seen["reply"]["message"]["text"], seen["reply"]["parentId"]) == ("reply", seen["channel"]["message"]["id"])
    assert seen["group"]["message"]["text"] == "to the group"
    assert (seen["reacted"]["emoji"], seen["reacted"]["agentName"]) == ("👍", "bob")
    assert seen["read"]["agentName"] == "bob"
    assert (seen["conversation"], seen["thread"]) == (["direct"], [True])
    assert seen["members"] == seen["presence"] == ["ada", "bob"]
    assert seen["unread"] == [0, 0]


async def test_the_pypi_sdk_posts_receives_and_acknowledges(engine, pypi_venv, run, python_script):
    python = pypi_venv("venv-relaycast-sdk", "relaycast-sdk==1.0.0")
    seen = await run(python, python_script("sdk.py"), cwd=python_script("."), ENGINE_URL=engine.base_url)
    assert seen["status"] == "online"
    assert seen["events"] == ["dm.received", "message.created", "message.reacted", "thread.reply"]
    assert (seen["texts"], seen["conversation"], seen["thread"]) == (["hello @ada"], ["direct"], [True])
    assert seen["reactions"] == [["👍", 1]]
    assert seen["readers"] == ["ada", "bob"]
    assert seen["read_status"] == seen["members"] == ["ada", "bob"]
    assert seen["unread"] == [0, 0]
    assert len(seen["nodes"]) == 2
    assert seen["rotated"] is True
