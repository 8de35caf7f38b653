"""Hundreds of messages into one real program, with everything that a person and a day do to it in between.

Between messages, by one seed: dialogs that a message brings up and a person refuses, resizes, stops and continues,
drafts that a person submits or rubs out, busy turns. Held against it, all the time and at the end:

* every acknowledged message stands in the conversation with the model, once;
* every message arrives in the end;
* no dialog was answered by a message: what the dialogs ask for never happened, and each stayed until the person came;
* a draft is as its person left it, until that person goes on.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

from tests.agents.bench import PATIENCE, Bench
from tests.agents.questions import DIALOGS, Dialog

_SIZES = ((24, 80), (24, 40), (30, 100), (50, 120), (24, 60))
_WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "@README.md",
    ":smile",
    "/help",
    "#tag",
    "$HOME",
    "`ls`",
    "42",
    "日本",
    "…",
    "done",
]
IN_FLIGHT = 12
"""Messages that are sent on before earlier ones have to be there."""


class Soak:
    """One run. `go` raises AssertionError with the seed at the first promise that is broken."""

    def __init__(self, bench: Bench, seed: int, count: int) -> None:
        self.bench, self.seed, self.count = bench, seed, count
        self.random = random.Random(seed)
        self.sent: dict[str, str] = {}
        self.refused = 0
        self.drafts: list[str] = []
        self.probe = bench.folder / "probe"
        self.pid = int(bench.agent()["pid"])
        self.story: list[str] = []

    def go(self) -> str:
        """What was done, in a line."""
        try:
            while len(self.sent) < self.count:
                self._some_messages()
                self._something_else()
            self._settle(self.sent, 600)
            self._check(final=True)
        except AssertionError as error:
            story = "\n".join(self.story[-12:])
            raise AssertionError(f"seed {self.seed}, after {len(self.sent)} messages\n{story}\n{error}") from error
        return (
            f"seed {self.seed}: {len(self.sent)} messages, {self.refused} questions refused, {len(self.drafts)} drafts, "
            f"{sum(one.startswith('resize') for one in self.story)} resizes, "
            f"{sum(one.startswith('stop') for one in self.story)} stops"
        )

    # --- steps ------------------------------------------------------------------------------------------------------------

    def _some_messages(self) -> None:
        for _ in range(self.random.randint(1, 6)):
            if len(self.sent) < self.count:
                self._send(self._body())
        waiting = [one for one in self.sent if one not in self.bench.arrivals()]
        if len(waiting) > IN_FLIGHT:
            self._settle(waiting[:-4], 180)

    def _something_else(self) -> None:
        step = self.random.choice((
            self._question, self._resize, self._resize, self._stop, self._draft, self._busy, self._pause, self._pause,
        ))  # fmt: skip
        step()
        self._check()

    def _question(self) -> None:
        """A message brings up a dialog; others come meanwhile; after a while a person refuses."""
        if not (choices := self._dialogs()):
            return
        name, dialog = self.random.choice(choices)
        self._settle(self.sent, 300)
        self._note(f"question {name}")
        prompt = dialog.prompt.replace("PROJECT", str(self.bench.home.project)).replace("PROBE", str(self.probe))
        asked = self._send(prompt)
        self.bench.until(lambda: self._shows(dialog.shows), 60, f"the question {name}")
        later = [self._send(self._body()) for _ in range(self.random.randint(1, 3))]
        self.bench.stays(
            lambda: self._shows(dialog.shows) and not set(later) & self.bench.acked(), self.random.uniform(1, 5),
            f"the question {name} is not answered by a message",
        )  # fmt: skip
        assert not self.probe.exists(), f"a message answered {name}"
        self.bench.keys(dialog.deny)
        self.refused += 1
        self._settle([asked, *later], 180)

    def _dialogs(self) -> list[tuple[str, Dialog]]:
        """Those that one message brings up, in the program as it was started."""
        dialogs = DIALOGS[self.bench.program].items()
        is_plain = {k: not (v.setup or v.before or v.prompt.startswith("/") or "\f" in v.prompt) for k, v in dialogs}
        return [(k, v) for k, v in dialogs if is_plain[k]]

    def _resize(self) -> None:
        rows, columns = self.random.choice(_SIZES)
        self._note(f"resize {rows}x{columns}")
        self.bench.resize(rows, columns)

    def _stop(self) -> None:
        """Stopped, as by a laptop or a person with `kill -STOP`; messages come meanwhile."""
        self._note("stop")
        self.bench.signal(signal.SIGSTOP, self.pid)
        try:
            before = set(self.bench.arrivals())
            later = [self._send(self._body()) for _ in range(self.random.randint(1, 3))]
            time.sleep(self.random.uniform(0.5, 4))
            acked = set(later) & self.bench.acked()
            assert not acked, f"acknowledged while the program was stopped: {acked}"
            assert before <= set(self.bench.arrivals())
        finally:
            self.bench.signal(signal.SIGCONT, self.pid)

    def _draft(self) -> None:
        """A person types half a line, looks away, and then submits it or rubs it out."""
        self._settle(self.sent, 300)
        self.bench.until_composer(limit_s=60)
        text = f"draft {len(self.drafts)} of a person"
        self._note(f"draft {text!r}")
        self.bench.typed(text)
        self.bench.until_composer(text, limit_s=20)
        later = [self._send(self._body()) for _ in range(self.random.randint(0, 3))]
        self.bench.stays(lambda: self.bench.composer() == text, self.random.uniform(0.5, 6), "the draft stands alone")
        if self.random.random() < 0.5:
            self.bench.keys("\r")
            self.bench.until(lambda: any(text in one for one in self.bench.prompts()), 60, "the draft is at the model")
            assert all("Relay message" not in one for one in self.bench.prompts() if text in one), "typed onto a draft"
        else:
            for _ in text:
                self.bench.keys("\x7f")
        self.drafts.append(text)
        self._settle(later, 120)

    def _busy(self) -> None:
        self._send(f"DELAY {self.random.randint(1, 6)} then go on")

    def _pause(self) -> None:
        time.sleep(self.random.uniform(0, 2))

    # --- judging ------------------------------------------------------------------------------------------------------------

    def _check(self, *, final: bool = False) -> None:
        acked, arrived = self.bench.acked() & set(self.sent), self.bench.arrivals()
        if lost := [one for one in acked if one not in arrived]:
            # An answer of the log and one of the model are two moments; what is acknowledged must be there by now.
            self.bench.until(
                lambda: all(one in self.bench.arrivals() for one in lost), 5, f"acked, not at the model: {lost}"
            )
        twice = {one: count for one, count in arrived.items() if count > 1}
        assert not twice, f"more than once at the model: {twice}"
        assert not self.probe.exists(), "a message let a command run"
        if final:
            assert set(self.sent) <= acked, f"never acknowledged: {set(self.sent) - acked}"

    def _settle(self, wanted: object, limit_s: float) -> None:
        """Wait until these are at the model and acknowledged."""
        identifiers = set(wanted)  # type: ignore[call-overload]
        self.bench.until_arrived(identifiers, limit_s)
        self.bench.until_acked(identifiers, 30)

    def _shows(self, text: str) -> bool:
        with self.bench.tap().lock:
            return "".join(text.split()) in self.bench.tap().screen.flat

    def _send(self, text: str) -> str:
        identifier = self.bench.send(text, mode="steer" if self.random.random() < 0.1 else "wait")
        self.sent[identifier] = text
        return identifier

    def _body(self) -> str:
        number = len(self.sent)
        words = " ".join(self.random.choices(_WORDS, k=self.random.choice((1, 3, 8, 40, 400))))
        lines = "\n".join(self.random.choices(_WORDS, k=self.random.choice((0, 0, 0, 3))))
        return f"number {number}: {words}" + (f"\n{lines}" if lines else "")

    def _note(self, what: str) -> None:
        self.story.append(what)


def soak(started: Callable[..., Bench], count: int, seed: int) -> str:
    """Run it with a fresh agent; prints the seed first."""
    print(f"soak: SOAK={count} SEED={seed} (PATIENCE={PATIENCE})", flush=True)
    said = Soak(started(), seed, count).go()
    print(said, flush=True)
    return said
