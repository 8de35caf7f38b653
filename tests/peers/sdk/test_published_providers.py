"""Node providers of the published SDKs serve actions beside the broker of a node (engine-contract.md section 5.6)."""

import pytest

pytestmark = pytest.mark.peers


async def test_the_node_provider_of_the_npm_sdk_works_beside_a_broker(engine, npm_package, node_script):
    seen = await node_script("provider.mjs", npm_package("@relaycast/sdk", "6.0.2"), ENGINE_URL=engine.base_url)
    assert seen["registered"] == [["sum", True], ["fails", True]]
    assert seen["conflict"] == "capabilities_rejected"
    assert seen["sum"] == ["completed", {"sum": 3, "said": "calculator", "spawned": "spawn"}]
    assert (seen["product"], seen["fails"]) == (["completed", 12], ["failed", "on purpose"])
    assert seen["spawn"] == ["spawn:claude", "helper"]
    assert seen["said"] == [["calculator", "sum of 1 and 2"]]
    assert seen["delivered"] == "for the broker"
    assert seen["offered"] == ["echo", "fails", "product", "spawn:claude", "sum"]
    assert (seen["gone"], seen["stays"]) == (404, ["completed", 30])


async def test_the_node_provider_of_the_pypi_sdk_works(engine, pypi_venv, run, python_script):
    python = pypi_venv("venv-relaycast-sdk", "relaycast-sdk==1.0.0")
    seen = await run(python, python_script("provider.py"), cwd=python_script("."), ENGINE_URL=engine.base_url)
    assert seen == {"registered": [["sum", True]], "sum": {"sum": 3, "said": "calculator"}}
