"""How safe an effect's events must be is said of every effect, once (ADR-0082)."""

from __future__ import annotations

from typing import get_args

from relaybroker.domain import effects
from relaybroker.domain.effects import GRADES, Effect, Grade


def test_every_effect_has_a_grade():
    assert set(GRADES) == set(get_args(Effect))


def test_what_is_not_for_the_host_alone_waits_for_the_disk():
    """What can leave this machine, or promises something to somebody."""
    for_the_host = {
        effects.AttachHost,
        effects.StartProgram,
        effects.TypeText,
        effects.LookUp,
        effects.StopProgram,
        effects.ForgetProgram,
        effects.ConfirmReports,
        effects.EndHost,
    }
    assert {effect for effect, grade in GRADES.items() if grade is Grade.WRITTEN} == for_the_host
