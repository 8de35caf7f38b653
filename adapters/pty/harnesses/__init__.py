"""Profiles of the programs that agents run in: how each shows that it is ready or blocked, and how it takes text.

A profile is chosen by the broker with `profile_for(argv)` and known to the host by its name. A new program is a new
file here,
with its screens in `fixtures/terminals/<name>/`; no code changes. Source: node-protocol.md 6.4, 6.8; local-api.md
3.1, 3.3.
"""

from __future__ import annotations

import functools
import re
from fnmatch import fnmatchcase
from importlib import resources
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT = "default"


class ReadyRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every condition that is given must hold on the rendered screen."""

    screen_has_any: tuple[str, ...] = ()
    screen_lacks: tuple[str, ...] = ()
    """Any case."""
    cursor_line: str = ""
    """Regular expression, searched in the trimmed row of the cursor."""
    screen: str = ""
    """Regular expression, searched in the screen."""
    after_output: str = ""
    """Regular expression (any case) that the clean output must have shown since the start."""


class Dialog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question or login that only a person may answer. While it is on the screen nothing is typed."""

    name: str
    all_of: tuple[str, ...]
    """Texts that must all be there, any case."""
    any_of: tuple[str, ...] = ()
    """Of these, when there are any, at least one."""


class Alone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a program is kept from sharing a daemon with others of its kind, and with it the identity of whoever started that."""

    option: str = ""
    """Given to the program if its `--help` names it."""
    unless: tuple[str, ...] = ()
    """Arguments by which somebody asks for another's server: with one of these the option is not given."""
    files: dict[str, str] = {}
    """Variables that name the file by which programs of the kind find each other, and what it is called; each agent gets its own."""


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of program. Times are in milliseconds unless the name says otherwise."""

    name: str
    commands: tuple[str, ...] = ()
    """Shell patterns for the lower-case file name of the command."""
    interactive_only: bool = False
    """The profile is for the program's own prompt, so not when the arguments name a script or a command to run."""
    script_options: tuple[str, ...] = ()
    """Options that name something to run."""
    ready: tuple[ReadyRule, ...] = ()
    """The program is ready when one of these holds (evidence `prompt`)."""
    plain_program: bool = False
    """Also ready when it waits for its keyboard, or (where that cannot be seen) falls silent."""
    min_output: int = 0
    """Also ready after more output than this many bytes; 0 = never."""
    startup_timeout_s: float = 60.0
    """An unrecognised screen without dialog is released after this time, as `startup_timeout`."""
    dialogs: tuple[Dialog, ...] = ()
    multi_line: Literal["lines", "join"] = "lines"
    """Without bracketed paste: line feeds are typed as they are, or become spaces so that one Enter submits once."""
    tabs: Literal["keep", "spaces"] = "spaces"
    """Outside a paste, for a program that takes single keys: a TAB of the text becomes spaces, since it would be a key."""
    line_editor: bool = False
    """The prompt switches line collection off: that is waited for (bounded)."""
    echo_wait_ms: int = 300
    """Longest wait between text and Enter for a program that shows what it is typed."""
    silent_wait_ms: int = 50
    """The same for a program that showed nothing so far."""
    settle_ms: int = 0
    """Between the reaction and Enter, for programs that take a quick Enter for a part of a paste."""
    enter_wait_ms: int = 100
    """Longest wait for the reaction to Enter before the next message is typed."""
    gap_ms: int = 0
    """Least time between two messages."""
    verify_s: float = 5.0
    """How long the marker is looked for after Enter."""
    stop_signals: tuple[Literal["TERM", "HUP"], ...] = ("TERM",)
    """What ends the program in order; interactive shells ignore TERM."""
    coalesce: bool = False
    """Messages that wait together go in as one paste with one Enter, if the program takes pastes."""
    busy: str = ""
    """Regular expression: while one of the screen's last rows (without what we typed) matches, the program works and messages wait."""
    busy_patience_s: float = 300.0
    """A message that has waited so long is typed all the same: the program keeps what it is typed while it works."""
    foreground_only: bool = False
    """While another program has the terminal (a command of the shell) nothing is typed: it would go to that program."""
    steer_keys: bool = False
    """An injection with `steer` interrupts the program with ESC ESC first."""
    comment_prefix: str = ""
    """Put before each line of a message so that the program does not run it as a command; for the broker's composer."""
    hint: Literal["none", "line", "block"] = "none"
    """Which help on answering the broker's composer adds."""
    alone: Alone = Alone()


def profile(name: str) -> Profile:
    """The profile called `name`. Raises KeyError when there is none."""
    return _profiles()[name]


def names() -> tuple[str, ...]:
    """Every profile's name."""
    return tuple(_profiles())


def own_files() -> dict[str, str]:
    """Variables that name a file by which programs find each other, of every profile: a shell may run any of them."""
    return {variable: name for one in _profiles().values() for variable, name in one.alone.files.items()}


def profile_for(argv: Sequence[str]) -> Profile:
    """The profile for a command line; `default` when no other is meant for it."""
    if not argv:
        return _profiles()[DEFAULT]
    command = argv[0].rsplit("/", 1)[-1].lower()
    for candidate in _profiles().values():
        if any(fnmatchcase(command, pattern) for pattern in candidate.commands) and _fits(candidate, argv[1:]):
            return candidate
    return _profiles()[DEFAULT]


def _fits(candidate: Profile, arguments: Sequence[str]) -> bool:
    if not candidate.interactive_only or "-i" in arguments:
        return True
    return all(argument.startswith("-") and argument not in candidate.script_options for argument in arguments)


@functools.cache
def _profiles() -> dict[str, Profile]:
    files = sorted(
        (file for file in resources.files(__name__).iterdir() if file.name.endswith(".toml")),
        key=lambda file: file.name,
    )
    profiles = [msgspec.toml.decode(file.read_bytes(), type=Profile) for file in files]
    for one in profiles:
        re.compile(one.busy)
        for rule in one.ready:
            for pattern in (rule.cursor_line, rule.screen, rule.after_output):
                re.compile(pattern)
    return {one.name: one for one in profiles}
