"""An agent never acts under another one's name through a daemon of its program.

Some programs share one daemon per person: whoever comes second has its commands and tools run in the environment, and with the name and
the token, of whoever started it. The profile says how a program is kept alone (`relaybroker.adapters.sessions.terminal.harnesses.Alone`):
by an option, given if the program's own `--help` names it (older versions have neither the option nor the daemon), or by a file of its
own where its kind finds each other. What the program says is asked once per version of its file.

Source: ADR-0038; real-agents.md.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from relaybroker.adapters.sessions.host.process import find_command
from relaybroker.adapters.sessions.terminal import harnesses

if TYPE_CHECKING:
    from relaybroker.adapters.sessions.host.protocol import Start

_log = logging.getLogger(__name__)

HELP_S = 10.0
"""How long a program may take to say what options it has."""

_Version = tuple[tuple[str, ...], int, int]
"""The words that run the program; when its file was changed, and its size."""


class Isolation:
    """Completes requests so that their programs stay alone."""

    def __init__(self) -> None:
        self._has_option: dict[_Version, bool] = {}

    def completed(self, start: Start) -> Start | None:
        """The request as it goes to the host; None if the program must be asked first."""
        words = _words(start)
        if words is None:
            return start
        answer = self._has_option.get(_version(words, start))
        return None if answer is None else _with_option(start, words, given=answer)

    def ask(self, start: Start) -> Start:
        """The same, after asking the program; takes as long as that takes."""
        words = _words(start)
        if words is None:
            return start
        option = harnesses.profile(start.profile).alone.option
        version, said = _version(words, start), _help(words, start)
        if said is None:
            return start
        self._has_option[version] = option in said
        return _with_option(start, words, given=option in said)


def _words(start: Start) -> tuple[str, ...] | None:
    """The words up to the program that takes the option; None if it is not to be given."""
    try:
        profile = harnesses.profile(start.profile)
    except KeyError:
        return None
    alone = profile.alone
    given = {word.partition("=")[0] for word in start.argv[1:]}
    if not alone.option or given & {alone.option, *alone.unless}:
        return None
    words = harnesses.words_of_program(profile, start.argv)
    if words is None:
        _log.warning("%s runs %s in a way that takes no option: it may share a daemon", start.name, profile.name)
    return words


def _version(words: tuple[str, ...], start: Start) -> _Version:
    command = find_command(words[-1], start.env, start.cwd)
    try:
        status = Path(command or "").stat() if command else None
    except OSError:
        status = None
    return (*words[:-1], command or words[-1]), status.st_mtime_ns if status else 0, status.st_size if status else 0


def _with_option(start: Start, words: tuple[str, ...], *, given: bool) -> Start:
    if not given:
        return start
    option = harnesses.profile(start.profile).alone.option
    return msgspec.structs.replace(start, argv=(*words, option, *start.argv[len(words) :]))


def _help(words: tuple[str, ...], start: Start) -> str | None:
    """What `--help` says; None if it says nothing."""
    command = find_command(words[0], start.env, start.cwd)
    try:
        program = subprocess.Popen(
            [command or words[0], *words[1:], "--help"],
            cwd=start.cwd,
            env=start.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        _log.warning("%s cannot be asked for its options: %s", words[-1], error)
        return None
    try:
        said = program.communicate(timeout=HELP_S)[0]
    except subprocess.TimeoutExpired:
        _log.warning("%s does not say within %.0f s what options it has: it may share a daemon", words[-1], HELP_S)
        return None
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        if program.stdout is not None:
            program.stdout.close()
    return said.decode("utf-8", "replace")
