"""As a service: the host in a scope, the first process of a container, what `doctor` and `service` say."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest

from tests.waiting import WAIT_S

MAY_MAKE_NAMESPACES = (
    shutil.which("unshare") is not None
    and subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
    ).returncode
    == 0
)


def _fake_manager(desk, script):
    place = desk.folder / "bin"
    place.mkdir()
    (place / "systemd-run").write_text(f'#!/bin/sh\necho "$@" >>{desk.folder}/asked\n{script}\n')
    (place / "systemd-run").chmod(0o755)
    return {
        "PATH": f"{place}:{os.environ['PATH']}",
        "INVOCATION_ID": "0123",
        "XDG_RUNTIME_DIR": str(desk.folder / "run"),
    }


@pytest.mark.parametrize(
    "script",
    ['while [ "$1" != "--" ]; do shift; done; shift; exec "$@"', "echo no manager here >&2; exit 1"],
    ids=["given", "not given"],
)
def test_a_host_is_started_in_a_scope_of_its_own_and_without_one_if_there_is_none(desk, script):
    up = desk.run("up", "--detach", **_fake_manager(desk, script))
    assert up.returncode == 0, up.stderr
    asked = (desk.folder / "asked").read_text().split()
    assert "--scope" in asked
    assert any(word.startswith("--unit=relaybroker-host-") for word in asked)
    assert desk.run("agent", "spawn", "w1", "--", "cat").returncode == 0
    assert desk.run("down").returncode == 0


@pytest.mark.skipif(not MAY_MAKE_NAMESPACES, reason="this user may not make a PID namespace")
def test_as_the_first_process_of_a_container_it_reaps_is_restarted_and_ends_cleanly(desk):
    """What a container needs of its first process, in a PID namespace as a container has it."""
    inside = subprocess.Popen(
        [
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child=SIGTERM",
            sys.executable,
            "-m",
            "relaybroker",
            "up",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=desk.environment,
        cwd=desk.folder,
    )
    try:
        (first,) = desk.until(lambda: psutil.Process(inside.pid).children(), "the first process")
        connection = desk.state / "connection.json"
        desk.until(connection.exists, "ready")
        spawned = desk.run("agent", "spawn", "w1", "--", "sh", "-c", "(setsid sleep 0.1 &); exec cat")
        assert spawned.returncode == 0, spawned.stderr
        agent = json.loads(desk.run("agent", "ls", "--json").stdout)[0]
        broker = next(one for one in first.children() if "up" in one.cmdline())
        connection.unlink()
        broker.send_signal(signal.SIGKILL)
        desk.until(connection.exists, "started again by the first process")
        again = desk.run("agent", "ls", "--json")
        assert [row["pid"] for row in json.loads(again.stdout)] == [agent["pid"]], "its agent lived on"
        desk.until(
            lambda: not [one for one in first.children(recursive=True) if one.status() == psutil.STATUS_ZOMBIE],
            "nothing is left unreaped",
        )
        first.terminate()
        assert inside.wait(WAIT_S) == 0
    finally:
        inside.kill()
        inside.communicate()


def test_the_doctor_sees_that_all_is_well_and_what_is_not(running):
    def checks():
        done = running.run("doctor", "--json")
        listed = json.loads(done.stdout)
        return done.returncode, {one["subject"]: one for one in listed}

    status, by_subject = checks()
    assert status == 0, by_subject
    assert {"program", "settings", "state", "log desk", "broker", "host", "api", "link", "engine"} <= set(by_subject)
    assert [one for one in by_subject.values() if one["grade"] == "broken"] == []
    (running.folder / "relaybroker.toml").write_text('max_agents = 1\n[agents.a]\ncli = "no-such-program"\n')
    running.state.chmod(0o755)
    running.kill_broker()
    status, by_subject = checks()
    assert status == 1
    assert by_subject["agent a"]["grade"] == "broken"
    assert "chmod 700" in by_subject["state"]["next"] or by_subject["state"]["grade"] == "ok"
    assert "relaybroker up --detach" in by_subject["host"]["next"], "agents without a broker"
    assert by_subject["api"]["grade"] == "broken"
    shown = running.run("doctor")
    assert "-> take it over: relaybroker up --detach" in shown.stdout
    assert all(one["next"] for one in by_subject.values() if one["grade"] != "ok")
    assert running.run("down").returncode == 0


def test_a_service_is_shown_before_it_is_installed_and_found_missing(desk):
    dry = desk.run("service", "install", "--dry-run", "--json", HOME=str(desk.folder))
    made = json.loads(dry.stdout)
    assert "KillMode=process" in made["text"]
    assert ["systemctl", "--user", "daemon-reload"] in made["commands"]
    assert not (desk.folder / ".config").exists(), "nothing was done"
    missing = desk.run("service", "status", HOME=str(desk.folder))
    assert missing.returncode == 3
    assert "relaybroker service install" in missing.stderr
    words = desk.run("service", "restart", "--dry-run", HOME=str(desk.folder)).stdout
    assert "--signal=HUP" in words
