from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from relaybroker.adapters.machine_seed import MachineSeedError, load_or_create
from tests.waiting import WAIT_S

PROGRAM = """
import sys
from pathlib import Path
from relaybroker.adapters.machine_seed import load_or_create
sys.stdin.read(1)
print(load_or_create(Path(sys.argv[1])))
"""


def test_a_first_start_makes_a_seed_that_later_starts_find(tmp_path: Path) -> None:
    first = load_or_create(tmp_path / "agent-relay")
    assert re.fullmatch(r"node_[0-9a-f]{32}", first)
    assert load_or_create(tmp_path / "agent-relay") == first
    assert (tmp_path / "agent-relay" / "machine-id").read_text() == f"{first}\n"
    assert stat.S_IMODE((tmp_path / "agent-relay" / "machine-id").stat().st_mode) == 0o600


def test_any_text_is_accepted_and_trimmed(tmp_path: Path) -> None:
    (tmp_path / "machine-id").write_text("  my machine \n")
    assert load_or_create(tmp_path) == "my machine"


def test_a_blank_file_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / "machine-id").write_text(" \n")
    assert load_or_create(tmp_path).startswith("node_")


@pytest.mark.parametrize("content", [b"node_\xff\xfe", b"node_\x00abc"])
def test_a_file_that_cannot_be_used_stops_the_start_and_is_not_touched(tmp_path: Path, content: bytes) -> None:
    """I2."""
    (tmp_path / "machine-id").write_bytes(content)
    with pytest.raises(MachineSeedError):
        load_or_create(tmp_path)
    assert (tmp_path / "machine-id").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["machine-id"]


def test_a_read_error_is_never_taken_for_a_missing_file(tmp_path: Path) -> None:
    """I2: reading a directory fails with an error that is not `not found`."""
    (tmp_path / "machine-id").mkdir()
    with pytest.raises(MachineSeedError):
        load_or_create(tmp_path)


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineSeedError):
        load_or_create(tmp_path / "file" / "agent-relay")


def test_two_first_starts_at_the_same_moment_agree_on_one_seed(tmp_path: Path) -> None:
    """I2, with real processes, released together."""
    for attempt in range(3):
        directory = tmp_path / str(attempt)
        starters = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.getcwd()},
            )
            for _ in range(2)
        ]
        for starter in starters:
            assert starter.stdin is not None
            starter.stdin.write("g")
            starter.stdin.flush()
        seeds = {starter.communicate(timeout=WAIT_S)[0].strip() for starter in starters}
        assert seeds == {load_or_create(directory)}
        assert sorted(path.name for path in directory.iterdir()) == ["machine-id", "machine-id.lock"]
