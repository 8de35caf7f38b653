"""A real engine for programs that this project did not write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relaybroker.engine.server import EmbeddedEngine
from tests.waiting import WAIT_S

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
async def engine(tmp_path) -> AsyncIterator[EmbeddedEngine]:
    async with EmbeddedEngine(str(tmp_path / "engine.db")) as running:
        yield running


@pytest.fixture
def run(plain_environment):
    """`await run(command, cwd=…, **environment)` -> the one JSON object that the program printed."""

    async def start(*command, cwd, **environment):
        process = await asyncio.create_subprocess_exec(
            *map(str, command), cwd=cwd, env=plain_environment | environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(WAIT_S):
                out, error = await process.communicate()
        except BaseException:
            process.kill()
            await process.communicate()
            raise
        assert process.returncode == 0, error.decode()
        return json.loads(out.decode().strip().splitlines()[-1])

    return start


@pytest.fixture
def node_script(run):
    """`await node_script(name, project, **environment)`: a script of this folder, with the packages of the project."""

    async def start(name, project, **environment):
        source = (PROGRAMS / name).read_text()
        return await run(
            "node", "--no-warnings", "--experimental-websocket", "--input-type=module", "-e", source, cwd=project,
            **environment,
        )  # fmt: skip

    return start


@pytest.fixture
def python_script():
    """Path of a Python program of this folder."""
    return lambda name: PROGRAMS / name
