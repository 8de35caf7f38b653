"""Published SDKs reach every route of the engine that they have a method for (engine-contract.md section 2.9)."""

import pytest

pytestmark = pytest.mark.peers


@pytest.fixture
def own_receivers(monkeypatch):
    """The engine may post to this machine."""
    monkeypatch.setenv("RELAYBROKER_HOOK_NETWORKS", "127.0.0.0/8")


@pytest.mark.parametrize("version", ["5.0.5", "6.0.2"])
async def test_the_npm_sdk_reaches_every_route(own_receivers, engine, npm_package, node_script, version):
    seen = await node_script("routes.mjs", npm_package("@relaycast/sdk", version), ENGINE_URL=engine.base_url)
    assert seen["search"] == [["ops", "the needle in ops"]]
    assert (seen["hidden"], seen["found"]) == (["another needle"], 0)
    assert seen["topic"] == "new topic"
    assert seen["archived"] == [["general", False], ["ops", True]]
    assert (seen["added"]["agent"], seen["added"]["alreadyMember"]) == ("carol", False)
    assert seen["conversations"] == [["group", ["ada", "bob"], "in the group", 1]]
    assert seen["overheard"] == ["in the group"]
    assert seen["activity"] == [["dm", "in the group"], ["message", "another needle"]]
    assert (seen["events"], seen["status"]) == ([[True, "done"]], "idle")
    assert seen["renamed"] == "renamed"
    assert seen["prompts"] == [{"prompt": "", "isDefault": True}, {"prompt": "be kind", "isDefault": False}]
    assert seen["missing"] == [501, "This engine does not have triggers"]
    assert (seen["deferred"], seen["failed"]) == (["queued", True], ["failed", "no disk", False])
    assert (seen["hooked"], seen["webhooks"], seen["said"]) == ("general", ["ci"], [["ci", "built"]])
    assert (seen["sent"], seen["carried"], seen["fetched"]) == (200, [[True, "plan.txt", 11]], "the content")
    assert (seen["files"], seen["notMine"], seen["noFile"]) == (["plan.txt"], 403, 404)
    assert seen["posted"] == [["for @ada", True, "yes"]]
    assert (seen["subscription"], seen["subscriptions"]) == ([["message.created"], 1], 0)
    assert seen["unsafe"] == 400
    assert seen["minted"] == [True, False]
    assert (seen["observed"], seen["scopes"], seen["observable"], seen["tokens"]) == (403, ["activity:read"], True, 0)
    assert seen["after"] == 401


async def test_the_pypi_sdk_reaches_every_route(engine, pypi_venv, run, python_script):
    python = pypi_venv("venv-relaycast-sdk", "relaycast-sdk==1.0.0")
    seen = await run(python, python_script("routes.py"), cwd=python_script("."), ENGINE_URL=engine.base_url)
    assert seen["search"] == ["the needle"]
    assert seen["channels"] == ["general"]
    assert (seen["conversations"], seen["left"]) == (1, "forbidden")
    assert (seen["file"], seen["files"]) == ([200, "plan.txt", 11, "bob", "the content"], ["plan.txt"])
    assert seen["token"] == ["d", True, 1]
    assert seen["delivery"] == ["queued", "failed", "no disk"]
