"""Published drivers and SDKs, unmodified, start this broker and use it: every public method does what docs/clients.md says."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.peers.drivers.methods import HERE, PAGE, page, refusal_of, table

RUN_S = 170.0
BROKER = Path(sys.executable).with_name("agent-relay-broker")
PROGRAMS = HERE / "programs"
ACP_PROGRAM = Path(__file__).parents[2] / "acp_program.py"
PRIVATE = (
    "emitAfterSpawn", "installManagedBrokerExitHandler", "notifyBrokerExit", "runBeforeSpawn", "spawnCliWithContext",
)  # fmt: skip
"""Methods that the type declarations call private."""


async def run(command, environment, folder):
    """What the program printed last."""
    folder.mkdir()
    kept = {name: str(folder / name.lower()) for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")}
    for place in kept.values():
        Path(place).mkdir(mode=0o700)
    programs = folder / "programs"
    programs.mkdir()
    for name, what in {"claude": "cat", "opencode": f"{sys.executable} {ACP_PROGRAM}"}.items():
        program = programs / name
        program.write_text(f"#!/bin/sh\nexec {what}\n")
        program.chmod(0o755)
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env=environment
        | kept
        | {"FOLDER": str(folder), "BROKER": str(BROKER), "PATH": f"{programs}:{environment['PATH']}"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
    )
    try:
        async with asyncio.timeout(RUN_S):
            out, error = await process.communicate()
    except BaseException:
        process.kill()
        await process.communicate()
        raise
    assert process.returncode == 0, error.decode()[-2000:]
    return json.loads(out.decode().strip().splitlines()[-1])


def compare(report, *classes):
    """Every public method was called, is in the table, and came to what the table says."""
    expected = {f"{name}.{method}": outcome for name in classes for method, outcome in table()[name].items()}
    assert set(report["known"]) - set(expected) == set(), "methods of which the table says nothing"
    results = {method: outcome for method, outcome in report["results"].items() if method.split(".")[0] in classes}
    assert set(report["known"]) <= set(results), "methods that were not called"
    wrong = {
        method: outcome
        for method, outcome in results.items()
        if outcome.get("code") != refusal_of(expected.get(method, "?"))
    }
    assert wrong == {}
    return {method: outcome.get("answer") for method, outcome in results.items()}


def test_the_page_says_what_the_table_says():
    assert PAGE.read_text() == page(), "run: python -m tests.peers.drivers.methods"


@pytest.mark.peers
@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", ["8.9.2", "9.1.6"])
async def test_the_npm_driver(npm_package, plain_environment, tmp_path, version):
    """Local API checklist 1 to 15."""
    project = await asyncio.to_thread(npm_package, "@agent-relay/harness-driver", version)
    program = project / "driver.mjs"
    shutil.copy(PROGRAMS / "driver.mjs", program)
    private = ",".join(f"HarnessDriverClient.{name}" for name in PRIVATE)
    command = ["node", "--no-warnings", "--experimental-websocket", program]
    report = await run(command, plain_environment | {"PRIVATE": private}, tmp_path / "driver")
    answers = compare(report, "HarnessDriverClient", "SpawnedAgentHandle", "PtyInputStream")
    assert answers["HarnessDriverClient.queryEvents"] is True, "worker_ready comes behind agent_spawned"
    assert answers["HarnessDriverClient.getPending"] == {"same_id": True, "from": "human:ann"}
    assert answers["HarnessDriverClient.getLastEvent"] == {"same_id": True}
    assert answers["PtyInputStream.send"] == [1, 1, 1]
    assert answers["SpawnedAgentHandle.waitForIdle"] == "idle"
    assert answers["SpawnedAgentHandle.waitForExit"]["code"] == 7
    assert answers["SpawnedAgentHandle.waitForResult"] == {"verdict": "yes"}


@pytest.mark.peers
@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", ["13.4.1", "14.0.0"])
async def test_the_pypi_sdk(pypi_venv, plain_environment, tmp_path, version):
    """A program that is ready at once is waited for and found ready."""
    python = await asyncio.to_thread(pypi_venv, f"venv-agent-relay-{version}", f"agent-relay-sdk=={version}", "aiohttp")
    report = await run([python, PROGRAMS / "driver.py"], plain_environment, tmp_path / "sdk")
    answers = compare(report, "AgentRelayClient", "AgentRelay", "Agent")
    assert answers["AgentRelay.spawn_and_wait"] == "ready"
    assert answers["AgentRelay.wait_for_agent_message"] == "second"
    assert answers["AgentRelayClient.query_events"] is True
