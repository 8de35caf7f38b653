"""Records screens of the real programs as fixtures: `make record-screens`, or

    python -m tests.agents.record [--into DIR] [--size 24x80 …] [--story start …] [--case NAME …] [PROGRAM…]

Each program is driven by hand, without a broker, through the states that a rule about terminals has to tell apart. Paths
in a recording are neutral (`--root`). `expected.toml` says what is so by construction (`composer`, `busy`, `dialog`);
`profile` and everything that a rule concludes is added by those who make rules.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
import tomllib
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.agents import homes, install
from tests.agents.composers import composer as composer_of
from tests.agents.model_server import Model, running
from tests.agents.questions import DIALOGS, START, unreadable
from tests.agents.terminal import PASTE, PASTE_END, Terminal, session_members

SIZES = ("24x80", "24x40", "50x120")
_ROOT = Path("/var/tmp/lab")  # a neutral path; not /tmp, which some programs treat differently
_PROBE = "/opt/relay-probe"
_ESC = "\x1b"
LONG = "\n".join(f"line {number}: the quick brown fox jumps over the lazy dog" for number in range(1, 41))
PROSE = (
    "There are two ways. Do you want to keep the old API?\n\n1. Yes, deprecate it first\n2. No, remove it now\n\n"
    "Press enter to confirm, esc to interrupt. Tell me which (y/n)."
)


class Recorder:
    """Keeps the states of one program at one size."""

    def __init__(
        self,
        installed: install.Installed,
        into: Path,
        root: Path,
        model: Model,
        rows: int,
        columns: int,
        wanted: set[str],
    ) -> None:
        self.installed, self.program = installed, installed.program
        self.rows, self.columns = rows, columns
        self._into, self._root, self._model = into, root, model
        self._begun = 0
        self._wanted = wanted

    def only(self, names: Iterable[str]) -> list[str]:
        """Those that are asked for."""
        return [name for name in names if not self._wanted or name in self._wanted]

    def home(self, case: str = "") -> homes.Home:
        return homes.make(self.installed, self._root, self._model.url, case)

    @contextmanager
    def started(self, home: homes.Home) -> Iterator[Terminal]:
        """The program in a terminal."""
        self._begun = len(self._model.requests())
        # Gemini asks its terminal something, and under load leaves the answer standing in its composer.
        terminal = Terminal(
            home.argv, home.env, home.project, rows=self.rows, columns=self.columns, answers=self.program != "gemini"
        )
        try:
            yield terminal
        finally:
            terminal.close()

    def asked(self) -> int:
        """Requests of the conversation since the program was started."""
        return len([one for one in self._model.requests(self._begun) if one["main"]])

    def until_answered(self, count: int) -> None:
        """Wait until this many were answered."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if sum(one["main"] and "end" in one for one in self._model.requests(self._begun)) >= count:
                return
            time.sleep(0.1)
        raise AssertionError(f"the model was not asked {count} times")

    def until_ready(self, terminal: Terminal) -> None:
        """Wait for an empty composer."""
        terminal.until(lambda screen: composer_of(self.program, screen) == "", 40, "an empty composer")
        terminal.until_quiet(1.0, 6)
        terminal.until(lambda screen: composer_of(self.program, screen) == "", 10, "an empty composer that stays")

    def _named(self, case: str, dialog: str) -> str | None:
        """The question as the rules name it, if this case was recorded before at any size; else its kind."""
        for known in sorted((Path("fixtures/terminals") / self.program).glob(f"{case}*/expected.toml")):
            if re.fullmatch(rf"{case}(?:-\d+x\d+)?", known.parent.name):
                question: str | None = tomllib.loads(known.read_text()).get("question")
                return question
        return dialog or None

    def keep(
        self, terminal: Terminal, case: str, state: str, *, composer: str, busy: bool = False, dialog: str = "",
        quiet_s: float = 0.6,
    ) -> None:  # fmt: skip
        """Write what is there now. `composer`: empty, draft or none; waited for, since some echo late."""
        wanted: dict[str, Callable[[str | None], bool]] = {
            "empty": lambda draft: draft == "", "draft": bool, "none": lambda _: True,
        }  # fmt: skip
        terminal.until(lambda screen: wanted[composer](composer_of(self.program, screen)), 20, f"composer: {composer}")
        terminal.until_quiet(quiet_s, 2)
        with terminal.lock:
            output, screen = bytes(terminal.output), terminal.screen
            lines = [line.strip() for line in screen.lines if line.strip()]
            modes = (screen.bracketed_paste, screen.alternate, screen.cursor_hidden)
        assert str(Path.home()).encode() not in output, (
            "a path of this machine; install into a neutral RELAYBROKER_AGENTS"
        )
        name = case if (self.rows, self.columns) == (24, 80) else f"{case}-{self.columns}x{self.rows}"
        place = self._into / self.program / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "output.bin").write_bytes(output)
        entries: list[tuple[str, Any]] = [
            ("profile", self.program), ("origin", "recorded"), ("program", self.program),
            ("version", self.installed.version), ("rows", self.rows), ("columns", self.columns),
            ("composer", composer), ("question", self._named(case, dialog)), ("busy", busy or None),
            ("screen_has", lines[-3:]), ("bracketed_paste", modes[0] or None), ("alternate_screen", modes[1] or None),
            ("cursor_hidden", modes[2] or None),
        ]  # fmt: skip
        text = f"# {state}\n" + "".join(
            f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in entries if value is not None
        )
        (place / "expected.toml").write_text(text)
        print(f"  kept {self.program}/{name} ({len(output)} bytes)", flush=True)


# --- the states ---------------------------------------------------------------------------------------------------------


def start(recorder: Recorder) -> None:
    """First start, login, trust and what else is asked before the composer."""
    for case in recorder.only(homes.cases(recorder.program)):
        with _tolerant(recorder, case):
            home = recorder.home(case)
            with recorder.started(home) as terminal:
                shows = START[recorder.program, case]
                terminal.until_shows(*shows, limit_s=40)
                terminal.until_quiet(1.0, 2)
                shown = "none" if composer_of(recorder.program, terminal.screen) is None else "empty"
                recorder.keep(terminal, case, f"at the start: {case}", composer=shown, dialog=case, quiet_s=1.0)


def session(recorder: Recorder) -> None:
    """Ready, drafts, popups, busy, and back."""
    with _tolerant(recorder, "session"), recorder.started(recorder.home()) as terminal:
        if recorder.program == "codex":
            terminal.until_shows("Ask Codex to do anything", limit_s=30)
            recorder.keep(
                terminal, "starting", "shows a composer; its session is not there yet", composer="none", quiet_s=0
            )
        recorder.until_ready(terminal)
        recorder.keep(terminal, "ready", "waits for a prompt", composer="empty")
        terminal.typed("fix the parser, please")
        recorder.keep(terminal, "draft", "a person's half-typed text", composer="draft")
        _cleared(recorder, terminal)
        terminal.typed("look at @REA")
        recorder.keep(terminal, "completion", "a popup that completes the last word; Enter takes it", composer="draft")
        _cleared(recorder, terminal)
        terminal.typed("/")
        recorder.keep(terminal, "slash-menu", "a popup of commands", composer="draft")
        _cleared(recorder, terminal)
        terminal.keys(f"{PASTE}{LONG}{PASTE_END}")
        recorder.keep(terminal, "pasted", "a paste of 40 lines, not submitted", composer="draft")
        _cleared(recorder, terminal)
        terminal.keys(f"{PASTE}first line\nsecond line, which is so long that it wraps at any width that a terminal may "
                      f"have here\nthird{PASTE_END}")  # fmt: skip
        recorder.keep(terminal, "draft-lines", "three lines, not submitted; one wraps", composer="draft")
        _cleared(recorder, terminal)


def turns(recorder: Recorder) -> None:
    """Busy, and back."""
    with _tolerant(recorder, "busy"), recorder.started(recorder.home()) as terminal:
        recorder.until_ready(terminal)
        _asked(recorder, terminal, "DELAY 15 say when you are done")
        terminal.until_quiet(1.0, 1.0)
        waits = composer_of(recorder.program, terminal.screen) is not None
        empty, draft = ("empty", "draft") if waits else ("none", "none")
        recorder.keep(terminal, "busy", "the model answers", composer=empty, busy=True, quiet_s=0.1)
        terminal.typed("and then")
        if waits:
            terminal.until(lambda screen: composer_of(recorder.program, screen) == "and then", 8, "its echo")
        recorder.keep(terminal, "busy-draft", "half-typed text while it works", composer=draft, busy=True, quiet_s=0.2)
        terminal.keys("\r")
        recorder.keep(
            terminal, "busy-queued", "a text of a person waits in its own queue", composer=empty, busy=True, quiet_s=0.2
        )
        recorder.until_answered(2)
        _settled(recorder, terminal)
        state = "has answered, waits for a prompt"
        if recorder.program == "qwen":
            terminal.until_quiet(4, 10)
            state += "; may suggest one, which is not a draft (the cursor stands before it)"
        recorder.keep(terminal, "after-busy", state, composer="empty")
    with _tolerant(recorder, "prose"), recorder.started(recorder.home()) as terminal:
        recorder.until_ready(terminal)
        _asked(recorder, terminal, f"SAY {unreadable(json.dumps(PROSE))}")
        recorder.until_answered(1)
        terminal.until_shows("Tell me which (y/n).", limit_s=30)
        _settled(recorder, terminal)
        recorder.keep(terminal, "prose", "its own prose reads like a dialog; waits for a prompt", composer="empty")


def dialogs(recorder: Recorder) -> None:
    """What it asks in a session; one start each, so that every recording is small."""
    for name in recorder.only(DIALOGS[recorder.program]):
        dialog = DIALOGS[recorder.program][name]
        with _tolerant(recorder, name):
            home = recorder.home()
            if dialog.setup is not None:
                home = dialog.setup(home)
            with recorder.started(home) as terminal:
                recorder.until_ready(terminal)
                terminal.keys(dialog.before)
                terminal.until_quiet(0.5, 2)
                number = 0
                for number, prompt in enumerate(dialog.prompt.split("\f"), 1):
                    if number > 1:
                        recorder.until_answered(number)
                        _settled(recorder, terminal)
                    _asked(recorder, terminal, prompt.replace("PROJECT", str(home.project)).replace("PROBE", _PROBE))
                if not dialog.prompt.startswith("/"):
                    recorder.until_answered(number)
                terminal.until_shows(dialog.shows, limit_s=30)
                recorder.keep(terminal, name, f"asks: {dialog.kind}", composer="none", dialog=dialog.kind, quiet_s=1.0)


def stops(recorder: Recorder) -> None:
    """Stopped and continued, as by `kill -STOP`: some paint all of their screen again, one forgets its cursor."""
    with _tolerant(recorder, "continued"), recorder.started(recorder.home()) as terminal:
        recorder.until_ready(terminal)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in session_members(terminal.pid):
                os.kill(pid, number)
            time.sleep(2)
        recorder.keep(
            terminal, "continued", "was stopped and goes on; waits for a prompt",
            composer="none" if composer_of(recorder.program, terminal.screen) is None else "empty",
        )  # fmt: skip


def _asked(recorder: Recorder, terminal: Terminal, text: str) -> None:
    """Pasted, so that nothing completes (a command is typed); then Enter, again when a guard swallowed it."""
    if text.startswith("/"):
        terminal.typed(text)
        terminal.until_quiet(0.5, 2.0)
        terminal.keys("\r")
        return
    before = recorder.asked()
    terminal.keys(f"{PASTE}{text} {PASTE_END}")
    # A draft that is taller than the composer has no prompt sign on the screen: None.
    terminal.until(lambda screen: composer_of(recorder.program, screen) != "", 20, "the echo of a paste")
    terminal.until_quiet(0.5, 2.0)
    terminal.keys("\r")
    for seconds in range(60):
        if recorder.asked() > before:
            return
        time.sleep(1.0)
        if seconds % 6 == 5 and composer_of(recorder.program, terminal.screen):
            terminal.keys("\r")
    raise AssertionError(f"the model was not asked:\n{terminal.screen.text}")


def _settled(recorder: Recorder, terminal: Terminal) -> None:
    terminal.until(lambda screen: composer_of(recorder.program, screen) == "", 40, "an empty composer")
    terminal.until_quiet(1.5, 6)


def _cleared(recorder: Recorder, terminal: Terminal) -> None:
    """Rub out whatever stands in the composer."""
    for keys in ("\x15", _ESC, "\x15", "\x15", "\x03"):
        terminal.keys(keys)
        time.sleep(0.6)  # Escape and a key after it would be one key
        if composer_of(recorder.program, terminal.screen) == "":
            return
    raise AssertionError(f"the composer is not empty:\n{terminal.screen.text}")


@contextmanager
def _tolerant(recorder: Recorder, case: str) -> Iterator[None]:
    """A state that does not come is told, and the others are still recorded."""
    try:
        yield
    except (AssertionError, OSError):
        print(f"  NOT RECORDED {recorder.program}/{case} {recorder.columns}x{recorder.rows}", file=sys.stderr)
        traceback.print_exc(limit=1)


STORIES: dict[str, Callable[[Recorder], None]] = {
    "start": start,
    "session": session,
    "turns": turns,
    "stops": stops,
    "dialogs": dialogs,
}


def main() -> int:
    """Record what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--into", type=Path, default=Path("fixtures/terminals"))
    parser.add_argument("--root", type=Path, default=_ROOT, help="folder of home and project; stands in the recordings")
    parser.add_argument("--size", action="append", help="ROWSxCOLUMNS; may be repeated")
    parser.add_argument("--story", action="append", choices=STORIES)
    parser.add_argument("--case", action="append", default=[], help="of the stories start and dialogs, only these")
    parser.add_argument("--newest", action="store_true")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=" ".join(install.PROGRAMS))
    given = parser.parse_args()
    with running() as model:
        for program in given.programs or install.PROGRAMS:
            installed = install.install(program, newest=given.newest)
            for size in given.size or SIZES:
                rows, columns = (int(one) for one in size.split("x"))
                print(f"{program} {installed.version} {size}", flush=True)
                wanted = set(given.case)
                recorder = Recorder(installed, given.into, given.root, model, rows, columns, wanted)
                for story in given.story or STORIES:
                    STORIES[story](recorder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
