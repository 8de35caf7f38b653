"""The clock of the loop."""

from __future__ import annotations

from relaybroker.node.clock import LEAP_S, SteadyClock


class Machine:
    """A machine whose wall clock people set."""

    def __init__(self) -> None:
        self.wall = 1000.0
        self.pace = 7.0

    def pass_s(self, seconds: float) -> None:
        self.wall += seconds
        self.pace += seconds

    def clock(self, floor: float) -> SteadyClock:
        return SteadyClock(floor, wall=lambda: self.wall, pace=lambda: self.pace)


def test_it_shows_the_wall_clock_and_follows_it_forward() -> None:
    machine = Machine()
    clock = machine.clock(0.0)
    assert clock() == 1000.0
    machine.wall += 3600.0
    assert clock() == 4600.0


def test_set_back_it_goes_on_at_the_pace_of_real_time() -> None:
    """F035: an hour back is no hour without heartbeats."""
    machine = Machine()
    clock = machine.clock(0.0)
    clock()
    machine.wall -= 3600.0
    machine.pass_s(2.0)
    assert clock() == 1002.0
    machine.pass_s(3600.0)
    assert clock() == 4602.0


def test_it_says_once_by_how_much_it_has_leapt() -> None:
    """Set by years, or asleep for a night; not what passed before anybody looked, and no small correction."""
    machine = Machine()
    clock = machine.clock(10.0)
    clock()
    assert clock.take_leap() == 0.0
    machine.pass_s(LEAP_S * 3)
    clock()
    assert clock.take_leap() == 0.0, "time that has passed"
    machine.wall += LEAP_S
    clock()
    assert clock.take_leap() == 0.0
    machine.wall += 14 * 365 * 86_400.0
    machine.pass_s(1.0)
    clock()
    clock()
    assert clock.take_leap() == 14 * 365 * 86_400.0
    assert clock.take_leap() == 0.0
    machine.wall -= 14 * 365 * 86_400.0
    clock()
    assert clock.take_leap() == 0.0, "back is no leap"


def test_it_begins_no_earlier_than_the_newest_record() -> None:
    """F035: set back while no broker ran."""
    machine = Machine()
    clock = machine.clock(5000.0)
    machine.pass_s(1.5)
    assert clock() == 5001.5
