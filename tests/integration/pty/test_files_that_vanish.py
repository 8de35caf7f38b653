"""Cleaners of temporary directories remove what nobody touched for long: the host goes on and is found (tmux/tmux#4640)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from relaybroker.adapters.sessions.host.client import HostClient
from relaybroker.adapters.sessions.host.protocol import PROTOCOL_VERSION, Hello, Started

DEADLINE_S = 60.0
FILES = ("", ".lock", ".pid", ".sessions")


def _remove(broker):
    for suffix in FILES:
        Path(f"{broker.socket_path}{suffix}").unlink()


async def test_a_broker_that_comes_right_after_finds_the_same_host_and_its_agents(broker, is_alive):
    await broker.start("cat", wait=Started)
    (host,) = broker.host_pids
    _remove(broker)
    await broker.client.close()
    welcome = await broker.attach()
    assert welcome.host_pid == host
    assert [session.pid for session in welcome.sessions] == [await broker.pid()]
    assert await broker.type_text("still there")


@pytest.mark.parametrize("suffix", FILES)
async def test_each_file_that_vanishes_is_put_back(broker, suffix):
    await broker.start("cat", wait=Started)
    (host,) = broker.host_pids
    file = Path(f"{broker.socket_path}{suffix}")
    mode = file.stat().st_mode
    file.unlink()
    await broker.until(file.exists, f"{file.name} is there again", DEADLINE_S)
    assert file.stat().st_mode == mode
    await broker.client.close()
    assert (await broker.attach()).host_pid == host


async def test_a_file_in_the_place_of_the_socket_is_replaced(broker):
    """Our lock says that the place is ours."""
    (host,) = broker.host_pids
    socket = Path(broker.socket_path)
    socket.unlink()
    socket.write_text("nonsense")
    await broker.until(socket.is_socket, "the socket is there again", DEADLINE_S)
    await broker.client.close()
    assert (await broker.attach()).host_pid == host


async def test_a_host_whose_directory_was_removed_ends_with_its_agents_when_no_broker_is_there(broker, is_alive):
    """Nothing runs on unseen."""
    directory = broker.directory / "removed"
    directory.mkdir(mode=0o700)
    path = str(directory / "h.sock")
    client = HostClient(path, log_path=f"{path}.log", on_response=lambda _r: None, on_lost=lambda _w: None)
    welcome = await client.attach(Hello(version=PROTOCOL_VERSION, broker_pid=os.getpid()))
    broker.host_pids.add(welcome.host_pid)
    shutil.rmtree(directory)
    await broker.until(lambda: not directory.exists(), "it is gone", DEADLINE_S)
    await client.close()
    await broker.until(lambda: not is_alive(welcome.host_pid), "the host has ended", DEADLINE_S)
    assert not directory.exists()
