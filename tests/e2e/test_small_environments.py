"""Where less is there than on a desk: no name for the user, no streams, no memory, no place to write, no files that say who runs."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.waiting import WAIT_S

needs_namespaces = pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "-p", "-f", "--mount-proc", "true"], capture_output=True, check=False).returncode
    != 0,
    reason="no namespaces here",
)


@needs_namespaces
async def test_a_user_id_without_passwd_entry_runs_a_broker_and_agents(deployment):
    """ansible/ansible#39166: containers run programs as a number, without USER. Here: a mount namespace with an empty /etc/passwd."""
    empty = deployment.folder / "empty"
    empty.touch()
    environment = {
        k: v for k, v in deployment.environment().items() if k not in ("USER", "LOGNAME", "LNAME", "USERNAME")
    }

    def command(*words):
        inside = 'mount --bind "$0" /etc/passwd && exec "$@"'
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", inside, str(empty), sys.executable, "-m", "relaybroker", *words],
            env=environment | {"AGENT_RELAY_STATE_DIR": str(deployment.folder / "other")},
            cwd=deployment.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    up = command("up", "--detach", "--name", "other")
    assert up.returncode == 0, up.stderr
    spawned = command("agent", "spawn", "w1", "--", "cat")
    assert spawned.returncode == 0, spawned.stderr
    assert command("message", "send", "w1", "hello").returncode == 0
    down = command("down")
    assert down.returncode == 0, down.stderr


async def test_a_start_that_fails_at_its_last_step_leaves_nothing_running(tmp_path, make_deployment):
    """A full disk does it; here, what the broker would write last cannot be written. Clients have not seen this broker yet."""
    made = make_deployment(tmp_path)
    (made.state / "connection-desk.json" / "in the way").mkdir(parents=True, mode=0o700)
    made.state.chmod(0o700)
    ended = made.command("up", "--name", "desk")
    assert ended.returncode == 1, (ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr
    assert "engine" in {path.name for path in made.state.iterdir()}, "it came as far as the engine"
    assert made.processes() == []


def _run(deployment, words, *, before="", limit_kb=0):
    """The command in a shell that does something before it and closes or limits what it inherits."""
    return subprocess.run(
        ["sh", "-c", f'{before} exec "$@"', "sh", sys.executable, "-m", "relaybroker", *words],
        env=deployment.environment(),
        cwd=deployment.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_AS, (limit_kb * 1024,) * 2)) if limit_kb else None,
    )


@pytest.fixture
def place(tmp_path, make_deployment):
    """A directory of its own, in which nothing runs yet."""
    return make_deployment(tmp_path, AGENT_RELAY_STATE_DIR=str(tmp_path / "state"))


def test_a_broker_runs_without_standard_streams_and_with_little_address_space(place):
    """Supervisors close them; what is opened first would get their numbers, and what libraries print."""
    closed = "exec 0<&- 1>&- 2>&-;"
    up = _run(place, ["up", "--detach"], before=closed, limit_kb=300_000)
    assert up.returncode == 0
    own = [Path(f"/proc/{json.loads((place.state / 'connection.json').read_text())['pid']}/fd/{n}") for n in range(3)]
    assert [str(one.readlink()) for one in own] == ["/dev/null", *[str(place.state / "broker.out")] * 2]
    for words in (["agent", "spawn", "w1", "--", "cat"], ["message", "send", "w1", "hello"], ["log", "verify"]):
        assert _run(place, words).returncode == 0, words
    down = _run(place, ["down"], before=closed)
    assert down.returncode == 0
    assert psutil.wait_procs(place.processes(), WAIT_S)[1] == []


def test_a_foreground_broker_without_standard_streams_lives(place):
    command = f'exec 0<&- 1>&- 2>&-; exec "{sys.executable}" -m relaybroker up --state-dir "{place.state}"'
    broker = subprocess.Popen(["sh", "-c", command], env=place.environment(), cwd=place.folder)
    deadline = time.monotonic() + WAIT_S
    while not (place.state / "connection.json").exists():
        assert broker.poll() is None, "it has ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [os.readlink(f"/proc/{broker.pid}/fd/{number}") for number in range(3)] == ["/dev/null"] * 3
    broker.terminate()
    assert broker.wait(WAIT_S) == 0


@pytest.mark.parametrize("words", [["doctor"], ["machine", "ls"], ["status", "--json"], ["log", "tail"]])
@pytest.mark.parametrize("before", ["exec 1>&-;", "exec >/dev/full;", "exec 1>&- 2>&-;"])
def test_what_cannot_be_written_ends_a_command_with_a_sentence(place, words, before):
    done = _run(place, words, before=before)
    assert done.returncode in (0, 1, 3, 4), done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("limit_kb", [30_000, 75_000, 100_000])
def test_too_little_memory_is_said(place, limit_kb):
    for _ in range(3):
        done = _run(place, ["up"], limit_kb=limit_kb)
        if done.returncode != -signal.SIGSEGV:  # the interpreter itself, seldom, does not survive the want of memory
            break
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "there is not enough memory" in done.stderr
    assert place.processes() == []


def test_a_path_that_no_database_takes_is_refused_before_anything_is_made(place):
    state = place.folder.joinpath(*["d" * 200] * 14)
    done = _run(place, ["up", "--state-dir", str(state)])
    assert done.returncode == 1
    assert "path_too_long" in done.stderr
    assert not state.parent.exists()


@needs_namespaces
def test_a_read_only_directory_is_said(place):
    place.state.mkdir(mode=0o700)
    for words in (["up"], ["up", "--detach"], ["doctor"]):
        command = [sys.executable, "-m", "relaybroker", *words, "--state-dir", str(place.state)]
        inside = f'mount -t tmpfs -o ro,mode=700 tmpfs "{place.state}" && exec "$@"'
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", inside, "sh", *command],
            env=place.environment(), cwd=place.folder, capture_output=True, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 1, words
        assert "read-only file system" in (done.stdout + done.stderr).lower()
        assert "Traceback" not in done.stderr
    assert place.processes() == []


async def test_down_ends_everything_though_no_file_says_where_it_is(deployment, is_alive):
    """tmux/tmux#4640: cleaners remove sockets, locks and pid files; the broker was killed."""
    await deployment.spawn("ann")
    pids = [deployment.pids["ann"], deployment.host_pid()]
    deployment.kill_broker()
    for file in deployment.state.glob("host-*.sock*"):
        file.unlink()
    ended = deployment.command("down")
    assert ended.returncode == 0, ended.stderr
    await deployment.until(lambda: not any(is_alive(pid) for pid in pids), "nothing is left")


async def test_a_broker_that_is_started_after_a_cleaner_adopts_its_agents(deployment):
    await deployment.spawn("ann")
    for file in deployment.state.glob("host-*.sock*"):
        file.unlink()
    deployment.kill_broker()
    await deployment.start()
    status = await deployment.until_api(lambda s: s["agents"], "the agent is there")
    assert [agent["pid"] for agent in status["agents"]] == [deployment.pids["ann"]]
    await deployment.post("ann", "after")
    await deployment.until(lambda: not deployment.missing(), "it arrives")
