"""Record the terminal output of a program as a fixture: see fixtures/terminals/README.md.

`python tests/integration/pty/record_screen.py PROGRAM/CASE --version V [--profile P] [--size RxC] -- COMMAND…`
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from pathlib import Path

from ptyprocess import PtyProcess

from relaybroker.adapters.sessions.terminal import harnesses, sight
from relaybroker.adapters.sessions.terminal.screen import Terminal

SCREENS = Path(__file__).parents[3] / "fixtures" / "terminals"
PAUSE_S = 0.6


def main() -> None:
    """Run the command, type the lines of standard input, write `output.bin`, and `expected.toml` with today's verdict to be checked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", help="PROGRAM/CASE")
    parser.add_argument("--version", required=True)
    parser.add_argument("--profile", default="")
    parser.add_argument("--size", default="24x80")
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    rows, columns = map(int, asked.size.split("x"))
    keys = [_unescaped(line.rstrip("\n")) for line in sys.stdin]
    output = record(asked.command, keys, rows, columns)
    directory = SCREENS / asked.case
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "output.bin").write_bytes(output)
    profile = asked.profile or harnesses.profile_for(asked.command).name
    program = asked.case.partition("/")[0]
    (directory / "expected.toml").write_text(verdict(output, profile, program, asked.version, rows, columns))


def _unescaped(keys: str) -> str:
    return keys.replace("\\e", "\\x1b").encode("ascii", "backslashreplace").decode("unicode_escape")


def record(command: list[str], keys: list[str], rows: int, columns: int) -> bytes:
    """What the program wrote until it had all keys and fell silent."""
    environment = {
        "PATH": os.environ["PATH"],
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "PS1": "$ ",
    }
    process = PtyProcess.spawn(command, env=environment, dimensions=(rows, columns))
    output = b""
    for key in ["", *keys]:
        os.write(process.fd, key.encode())
        end = time.monotonic() + PAUSE_S
        while (left := end - time.monotonic()) > 0:
            if select.select([process.fd], [], [], left)[0]:
                output += os.read(process.fd, 65536)
    process.terminate(force=True)
    return output


def verdict(output: bytes, profile: str, program: str, version: str, rows: int, columns: int) -> str:
    """What the rules say of the screen today, as `expected.toml`."""
    terminal = Terminal(rows, columns)
    terminal.feed(output)
    terminal.settle()
    seen = sight.read(harnesses.profile(profile), terminal.view(), collects_lines=False, echoes=False)
    composer = "none" if seen.composer is None else "empty" if seen.composer.is_empty else "draft"
    lines = [
        f'profile = "{profile}"',
        'origin = "recorded"',
        f'program = "{program}"',
        f'version = "{version}"',
        f"rows = {rows}",
        f"columns = {columns}",
        f'composer = "{composer}"',
        *([f'question = "{seen.question}"'] if seen.question else []),
        *(["busy = true"] if seen.works else []),
        "screen_has = []",
        *(["bracketed_paste = true"] if terminal.bracketed_paste else []),
        *(["alternate_screen = true"] if terminal.alternate_screen else []),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
