"""The service files: what systemd itself says of them, and that no crash of the broker ends an agent by them."""

from __future__ import annotations

import configparser
import plistlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from relaybroker.adapters.sessions.host import own_scope
from relaybroker.service.unit import Wanted, command_of, launchd, systemd


@pytest.fixture
def wanted(tmp_path):
    project = tmp_path / "a project with 100% $pace"
    project.mkdir()
    return Wanted("desk 1", project, project / "relaybroker.toml", None)


def _parsed(text):
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",))
    parser.optionxform = str
    parser.read_string(text)
    return parser


@pytest.mark.parametrize("system", [False, True])
def test_a_crash_of_the_broker_leaves_the_agents_to_the_next_one(wanted, system):
    unit = systemd(wanted, {"HOME": "/home/u"}, system=system, account="relay")
    service = _parsed(unit.text)["Service"]
    assert service["KillMode"] == "process"
    assert (service["Type"], service["Restart"], service["OOMPolicy"]) == ("notify", "on-failure", "continue")
    assert ("User" in service) is system
    assert unit.path.name == "relaybroker-desk-1.service"
    assert unit.path.is_relative_to("/etc/systemd/system" if system else "/home/u/.config/systemd/user")
    assert all((command[1] == "--user") is not system for command in unit.install if command[0] == "systemctl")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze on this machine")
def test_systemd_finds_nothing_wrong_with_it(wanted, tmp_path):
    unit = systemd(wanted, {"HOME": str(tmp_path)}, system=True, account="root")
    (tmp_path / unit.name).write_text(unit.text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / unit.name)], capture_output=True, text=True, check=False
    )
    about = [line for line in done.stderr.splitlines() if unit.name in line]
    assert about == []


def test_every_word_of_the_command_means_itself(wanted):
    line = next(line for line in systemd(wanted, {}, system=True).text.splitlines() if line.startswith("ExecStart="))
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line.removeprefix("ExecStart="))
    plain = [(quoted or bare).replace("%%", "%").replace("$$", "$") for quoted, bare in words]
    assert plain == command_of(wanted)


def test_the_file_of_launchd_is_a_property_list_that_leaves_the_agents_alone(wanted):
    properties = plistlib.loads(launchd(wanted, {"HOME": "/Users/u"}).text.encode())
    assert properties["ProgramArguments"] == command_of(wanted)
    assert properties["AbandonProcessGroup"]
    assert properties["KeepAlive"] == {"SuccessfulExit": False}


@pytest.fixture
def manager(tmp_path):
    (tmp_path / "systemd-run").write_text("#!/bin/sh\n")
    (tmp_path / "systemd-run").chmod(0o755)
    return {"PATH": str(tmp_path), "INVOCATION_ID": "1"}


def test_only_a_host_that_a_service_starts_gets_a_scope(manager, monkeypatch):
    assert own_scope.scope_command("/s", {key: value for key, value in manager.items() if key != "INVOCATION_ID"}) == []
    assert own_scope.scope_command("/s", manager | {"PATH": "/nowhere"}) == []
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert own_scope.scope_command("/s", manager) == [], "no manager of this user"
    mine = own_scope.scope_command("/s", manager | {"XDG_RUNTIME_DIR": "/run/user/1000"})
    assert Path(mine[0]).name == "systemd-run"
    assert mine[1:3] == ["--user", "--scope"]
    assert mine[-1] == "--"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "--user" not in own_scope.scope_command("/s", manager)
