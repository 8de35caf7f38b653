"""Where a broker is looked for, how a start is waited for, and what a refused one leaves."""

from __future__ import annotations

import json
import subprocess
import sys

from relaybroker.adapters.service_notices import NoticeListener, ServiceNotices, environment_for
from tests.waiting import WAIT_S


def _without_place(desk):
    return {key: value for key, value in desk.environment.items() if key != "AGENT_RELAY_STATE_DIR"} | {
        "HOME": str(desk.folder)
    }


def _run(desk, cwd, *words):
    return subprocess.run(
        [sys.executable, "-m", "relaybroker", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=_without_place(desk),
        cwd=cwd,
        timeout=WAIT_S,
        check=False,
    )


def test_the_broker_of_a_project_is_found_from_any_directory_in_it(desk):
    deep = desk.folder / "project" / "a" / "b"
    deep.mkdir(parents=True)
    project = desk.folder / "project"
    assert _run(desk, project, "up", "--detach").returncode == 0
    status = json.loads(_run(desk, deep, "status", "--json").stdout)
    assert status["places"]["state_dir"] == str(project / ".agentworkforce" / "relay")
    again = _run(desk, deep, "up", "--detach")
    assert again.returncode == 1
    assert "already running in this directory" in again.stderr, "it is the same project, not a new one"
    assert [path.name for path in (project / ".agentworkforce" / "relay").glob("journal-*.sqlite")] == [
        "journal-project.sqlite"
    ]
    assert _run(desk, desk.folder, "status").returncode == 4, "beside it there is none"
    assert _run(desk, deep, "down").returncode == 0


def test_a_refused_start_leaves_no_log_behind(shared):
    """Another broker of the same directory and node: refused by the node's lock, after its journal was opened."""
    refused = shared.run("up", "--detach", "--name", "other")
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert list(shared.state.glob("*other.sqlite*")) == []
    for words in (("why", "w1"), ("log", "verify"), ("delivery", "ls"), ("log", "tail")):
        done = shared.run(*words)
        assert done.returncode in (0, 11), done.stderr
        assert "--name" not in done.stderr


def test_a_start_tells_its_listener_what_it_does_until_it_is_ready(desk):
    """As systemd asks for it with `Type=notify`; agents and engine do not inherit the socket."""
    with NoticeListener() as listener:
        broker = subprocess.Popen(
            [sys.executable, "-m", "relaybroker", "up"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=desk.environment | {"NOTIFY_SOCKET": listener.address},
            cwd=desk.folder,
        )
        heard = []
        while "READY" not in (notice := listener.next(WAIT_S)):
            assert notice, "silent"
            heard.append(notice)
        assert {"checking the log", "listening"} <= {one["STATUS"] for one in heard}
        assert all(int(one["EXTEND_TIMEOUT_USEC"]) > 0 for one in heard)
        spawned = desk.run(
            "agent", "spawn", "w1", "--", "sh", "-c", f"echo [$NOTIFY_SOCKET] >{desk.folder}/seen; exec cat"
        )
        assert spawned.returncode == 0, spawned.stderr
        desk.until(lambda: (desk.folder / "seen").exists() and (desk.folder / "seen").read_text(), "started")
        assert (desk.folder / "seen").read_text() == "[]\n"
        assert desk.run("down").returncode == 0
        assert broker.wait(WAIT_S) == 0
        assert any("STOPPING" in listener.next(WAIT_S) for _ in range(2))


def test_nobody_listening_is_no_failure():
    ServiceNotices("/nowhere/at/all").ready("ready")
    ServiceNotices("").ready("ready")
    with NoticeListener() as listener:
        ServiceNotices(listener.address).progress("reading the log,\n3 of 7")
        assert listener.next(WAIT_S)["STATUS"] == "reading the log, 3 of 7"
        assert environment_for(listener)["NOTIFY_SOCKET"] == listener.address
