from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from relaybroker.adapters.machine_boot import machine_boot
from tests.waiting import WAIT_S


def test_every_process_of_one_run_of_the_machine_says_the_same():
    code = "from relaybroker.adapters.machine_boot import machine_boot; print(machine_boot())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=WAIT_S)
    assert machine_boot()
    assert other.stdout.strip() == machine_boot()


def test_a_machine_without_such_an_id_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr("relaybroker.adapters.machine_boot._LINUX", tmp_path / "absent")
    monkeypatch.setattr("relaybroker.adapters.machine_boot._DARWIN", (str(Path(tmp_path, "absent")),))
    assert machine_boot.__wrapped__() == ""


def test_where_there_is_no_proc_the_kernel_is_asked(monkeypatch, tmp_path):
    program = tmp_path / "sysctl"
    program.write_text("#!/bin/sh\necho run_1\n")
    program.chmod(0o700)
    monkeypatch.setattr("relaybroker.adapters.machine_boot._LINUX", tmp_path / "absent")
    monkeypatch.setattr("relaybroker.adapters.machine_boot._DARWIN", (str(program),))
    assert machine_boot.__wrapped__() == "run_1"
