"""Where less is there than on a desk: no name for the user, no files that say who runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.waiting import WAIT_S


async def test_a_user_id_without_passwd_entry_runs_a_broker_and_agents(deployment):
    """ansible/ansible#39166: containers run programs as a number, without USER. Here: a mount namespace with an empty /etc/passwd."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
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
    found = await deployment.until_api(lambda s: s["agents"], "the agent is there")
    assert [agent["pid"] for agent in found["agents"]] == [deployment.pids["ann"]]
    await deployment.post("ann", "after")
    await deployment.until(lambda: not deployment.missing(), "it arrives")
