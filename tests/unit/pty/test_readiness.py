"""The readiness gate as a table."""

from __future__ import annotations

import pytest

from relaybroker.adapters.sessions.host.process_table import Wait
from relaybroker.adapters.sessions.terminal import harnesses
from relaybroker.adapters.sessions.terminal.readiness import UNVERIFIED_QUIET_S, Look, readiness

CLAUDE = harnesses.profile("claude")
DEFAULT = harnesses.profile("default")
SHELL = harnesses.profile("shell")
AGENTS = [one for one in harnesses.profiles().values() if one.composer]
LONG = UNVERIFIED_QUIET_S + 1


def look(*, hook=False, composer=False, output_bytes=100, quiet_s=0.0, collects_lines=False, waits=Wait.NO):
    return Look(
        hook=hook,
        composer=composer,
        output_bytes=output_bytes,
        quiet_s=quiet_s,
        collects_lines=collects_lines,
        waits_for_keyboard=lambda: waits,
    )


@pytest.mark.parametrize(
    ("profile", "seen", "waited_s", "evidence"),
    [
        (DEFAULT, look(hook=True), 0, "hook"),
        (CLAUDE, look(hook=True), 0, "hook"),
        (CLAUDE, look(composer=True), 0, "prompt"),
        (CLAUDE, look(composer=True, waits=Wait.NO, output_bytes=0), 0, "prompt"),
        (CLAUDE, look(waits=Wait.READ, quiet_s=LONG), LONG, None),
        (CLAUDE, look(waits=None, quiet_s=1e6), 1e6, None),
        (DEFAULT, look(quiet_s=0.1, waits=Wait.READ), 0, "reading"),
        (DEFAULT, look(quiet_s=0.01, waits=Wait.READ), 0, None),
        (DEFAULT, look(quiet_s=0.1, waits=Wait.POLL), 0, None),
        (DEFAULT, look(quiet_s=0.4, waits=Wait.POLL), 0, "reading"),
        (DEFAULT, look(quiet_s=19, waits=Wait.NO), LONG, None),
        (DEFAULT, look(quiet_s=LONG, waits=Wait.NO), 19, None),
        (DEFAULT, look(quiet_s=LONG, waits=Wait.NO), LONG, "unverified"),
        (DEFAULT, look(quiet_s=0.4, waits=None), 1, "output"),
        (DEFAULT, look(quiet_s=1.0, waits=None, output_bytes=0), 1, None),
        (DEFAULT, look(quiet_s=1.6, waits=None, output_bytes=0), 2, "output"),
        (SHELL, look(quiet_s=0.1, waits=Wait.READ), 0, "reading"),
        (SHELL, look(quiet_s=0.4, waits=Wait.NO), 0, "output"),
        (SHELL, look(quiet_s=0.2, waits=Wait.NO), 0, None),
        (SHELL, look(quiet_s=1.0, waits=Wait.NO, output_bytes=0), 1, None),
    ],
)
def test_a_program_is_ready_by_the_evidence_of_its_profile(profile, seen, waited_s, evidence):
    """F091-F093, F096."""
    assert readiness(profile, seen, waited_s) == evidence


@pytest.mark.parametrize("profile", AGENTS, ids=lambda one: one.name)
def test_no_time_and_no_waiting_makes_a_program_ready_whose_composer_is_not_seen(profile):
    """F091: the proof is an empty composer that has the cursor, and nothing else."""
    for waits in (*Wait, None):
        assert readiness(profile, look(waits=waits, quiet_s=1e9), 1e9) is None


def test_who_waits_is_asked_only_of_a_program_without_composer():
    def never():
        pytest.fail("asked")

    assert readiness(CLAUDE, look(quiet_s=99)._replace(waits_for_keyboard=never), 99) is None
