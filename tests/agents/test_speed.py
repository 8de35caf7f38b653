"""From spawn to the first answer: with the broker, and with a person at the keyboard in its place, by one script.

The person types as soon as the composer shows, and presses Enter when the text stands there: as fast as anybody could.
Both are measured alternately, so that both have the same machine.
"""

from __future__ import annotations

import os
import statistics
import time
from functools import partial
from pathlib import Path

import pytest

from tests.agents import homes, install
from tests.agents.composers import composer
from tests.agents.conftest import Opener, new_folder
from tests.agents.model_server import Model
from tests.agents.terminal import Terminal

TEXT = "say hello"
ROUNDS = int(os.environ.get("ROUNDS", "5"))
RATIO = 1.2


@pytest.mark.holds("spawn to first answer: at most 1.2 x a person")
def test_the_broker_is_about_as_fast_as_a_person(opened: Opener, installed: install.Installed, model: Model) -> None:
    people, brokers = [], []
    for _ in range(ROUNDS):
        place = new_folder()
        people.append(by_hand(homes.make(installed, place, model.url), model))
        bench = opened()
        since, begun = len(model.requests()), time.monotonic()
        bench.spawn()
        bench.send(TEXT)
        bench.until(partial(_answered, model, since), 90, "the first answer")
        brokers.append(time.monotonic() - begun)
        bench.close()
    person, broker = statistics.median(people), statistics.median(brokers)
    said = (
        f"{installed.program} {installed.version}: spawn to first answer: person {person:.2f} s {_list(people)}, "
        f"broker {broker:.2f} s {_list(brokers)}, ratio {broker / person:.2f}"
    )
    print(said)
    if (place_of_figures := os.environ.get("FIGURES")) is not None:
        with Path(place_of_figures).open("a") as file:
            file.write(said + "\n")
    assert broker <= person * RATIO, said


def by_hand(home: homes.Home, model: Model) -> float:
    """Seconds until the model answered, with a person."""
    since, begun = len(model.requests()), time.monotonic()
    terminal = Terminal(home.argv, home.env, home.project)
    try:
        terminal.until(lambda screen: composer(home.program, screen) == "", 60, "an empty composer")
        terminal.keys(TEXT)
        terminal.until(lambda screen: composer(home.program, screen) == TEXT, 30, "the text stands there")
        terminal.keys("\r")
        pressed = time.monotonic()
        while not _answered(model, since):
            if time.monotonic() - pressed > 2 and composer(home.program, terminal.screen) == TEXT:
                terminal.keys("\r")
                pressed = time.monotonic()
            assert time.monotonic() - begun < 90, terminal.screen.text
            time.sleep(0.02)
        return time.monotonic() - begun
    finally:
        terminal.close()


def _answered(model: Model, since: int) -> bool:
    return any(one["main"] and "end" in one and TEXT in str(one["texts"]) for one in model.requests(since))


def _list(seconds: list[float]) -> str:
    return "(" + " ".join(f"{one:.1f}" for one in seconds) + ")"
