"""Each threat of SECURITY.md has tests that show what is done about it, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROWS = [
    line
    for line in (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| threat")
]


@pytest.fixture(scope="module")
def tests():
    names = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        names.update(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    return names


def test_the_threats_are_a_table():
    assert len(ROWS) >= 15


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_what_is_done_about_a_threat_is_shown_by_tests_that_are_there(row, tests):
    shown = row.rsplit("|", 2)[1]
    named = re.findall(r"`(test_\w+)`", shown)
    assert named
    assert set(named) <= tests
