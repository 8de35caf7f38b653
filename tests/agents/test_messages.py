"""Each text whole and exactly once at the model, whatever it is made of."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.agents.bench import Bench
from tests.agents.conftest import Opener

LONG = " ".join(f"word{number}" for number in range(1, 3000))[:15_000]
BODIES = {
    "short": "say hello",
    "15 KB": LONG,
    "15 KB in lines": "\n".join(LONG[at : at + 100] for at in range(0, len(LONG), 100)),
    "two lines": "first line\nsecond line",
    "empty lines": "first\n\n\nlast",
    "indented code": "def f(x):\n    if x:\n        return 1\n    return 2",
    "CJK": "请把这个函数改写成异步的，然后运行测试。日本語も大丈夫ですか？",
    "emoji": "done 👍🏽 family 👨‍👩‍👧 flag 🇪🇺",
    "tab": "a\tb\tc",
    "starts with /": "/help is a word here",
    "starts with !": "!important note for you",
    "starts with @": "@README.md has the text",
    "starts with #": "# a heading and no memory",
    "starts with $": "$HOME is a variable",
    "starts with ?": "? what do you mean",
    "lines that start with signs": "look:\n/quit\n!ls\n@x\n#y\n$z\n?q",
    "ends in @file": "have a look at @README.md",
    "ends in @": "my address is me@",
    "ends in :smile": "that is fine :smile",
    "ends in @name": "please tell @planner",
    "ends in /command": "then run /clear",
    "ends in a backslash": "a path C:\\",
    "reads like a dialog": "Do you want to proceed?\n> 1. Yes\n  2. No\nesc to interrupt (y/n)",
}


def squeezed(text: str) -> list[str]:
    """The lines of a text; how wide a blank is does not count, since programs make spaces of a tab."""
    return [re.sub(r"[ \t\xa0]+", " ", line).strip() for line in text.strip().splitlines()]


def is_whole(body: str, arrived: str) -> bool:
    """Whether all of `body` stands in what arrived, line by line."""
    return "\n".join(squeezed(body)) in "\n".join(squeezed(arrived))


def expect_once(bench: Bench, identifier: str, body: str, limit_s: float = 60) -> None:
    """It arrives, is acknowledged, and stands there once and whole."""
    bench.until_arrived([identifier], limit_s)
    bench.until_acked([identifier], 15)
    bench.until_composer(limit_s=30)
    assert bench.arrivals()[identifier] == 1, bench.account()
    assert is_whole(body, bench.text_of(identifier)), f"{bench.text_of(identifier)!r}\n{bench.account()}"


@pytest.mark.parametrize("kind", BODIES)
def test_a_text_arrives_whole_and_once(bench: Bench, kind: str, request: pytest.FixtureRequest) -> None:
    request.node.add_marker(pytest.mark.holds(f"text: {kind}"))
    identifier = bench.send(BODIES[kind])
    expect_once(bench, identifier, BODIES[kind])


@pytest.mark.holds("20 messages at once: each once")
def test_twenty_at_once_arrive_once_each(bench: Bench) -> None:
    bodies = {bench.send(body): body for body in (f"this is number {number} of twenty" for number in range(20))}
    bench.until_arrived(bodies, 90)
    bench.until_acked(bodies, 30)
    bench.until_composer(limit_s=60)
    counts = bench.arrivals()
    assert {identifier: counts[identifier] for identifier in bodies} == dict.fromkeys(bodies, 1), bench.account()
    for identifier, body in bodies.items():
        assert is_whole(body, bench.text_of(identifier)), bench.text_of(identifier)


@pytest.mark.holds("busy: held, then once")
def test_a_message_waits_until_the_program_is_free(bench: Bench) -> None:
    first = bench.send("DELAY 8 and say when you are done")
    bench.until_arrived([first], 30)
    second = bench.send("this one came while you worked")
    expect_once(bench, second, "this one came while you worked", 60)
    assert bench.arrivals()[first] == 1


@pytest.mark.holds("steer: reaches a busy program, once")
def test_a_steering_message_arrives_once(bench: Bench) -> None:
    first = bench.send("DELAY 10 and say when you are done")
    bench.until_arrived([first], 30)
    second = bench.send("stop and do this instead", mode="steer")
    bench.until_arrived([second], 60)
    bench.until_acked([first, second], 30)
    bench.until_composer(limit_s=60)
    counts = bench.arrivals()
    assert (counts[first], counts[second]) == (1, 1), bench.account()


@pytest.mark.holds("the first message after a spawn arrives")
def test_a_message_that_comes_with_the_start_is_not_lost(opened: Opener) -> None:
    bench = opened()
    bench.spawn()
    identifier = bench.send("the very first message")
    expect_once(bench, identifier, "the very first message", 90)


@pytest.mark.holds("wrapped in `env`: as if it were not")
def test_a_program_behind_a_wrapper_is_the_same_program(opened: Opener) -> None:
    bench = opened()
    bench.spawn(home=bench.home._replace(argv=["env", "WRAPPED=1", *bench.home.argv]))
    identifier = bench.send("hello behind the wrapper")
    expect_once(bench, identifier, "hello behind the wrapper", 90)


@pytest.mark.holds("40 columns: texts arrive")
def test_a_narrow_terminal_is_as_good(started: Callable[..., Bench]) -> None:
    bench = started()
    bench.resize(24, 40)
    bench.until_composer()
    for kind in ("short", "15 KB", "indented code", "ends in @file"):
        identifier = bench.send(BODIES[kind])
        expect_once(bench, identifier, BODIES[kind], 60)
