"""Record the terminal output of a program as a fixture: see fixtures/terminals/README.md."""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

from ptyprocess import PtyProcess

SCREENS = Path(__file__).parents[3] / "fixtures" / "terminals"


def main() -> None:
    """Run the command in a 24 x 80 terminal, type the lines of standard input, write `output.bin` and `expected.toml`."""
    program, case, profile = sys.argv[1:4]
    command = sys.argv[5:]
    keys = [line.rstrip("\n").encode().decode("unicode_escape").replace("\\e", "\x1b") for line in sys.stdin]
    environment = {
        "PATH": os.environ["PATH"],
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "PS1": "$ ",
    }
    process = PtyProcess.spawn(command, env=environment, dimensions=(24, 80))
    output = b""
    for key in ["", *keys]:
        os.write(process.fd, key.encode())
        end = time.monotonic() + 0.6
        while (left := end - time.monotonic()) > 0:
            if select.select([process.fd], [], [], left)[0]:
                output += os.read(process.fd, 65536)
    process.terminate(force=True)
    directory = SCREENS / program / case
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "output.bin").write_bytes(output)
    (directory / "expected.toml").write_text(
        f'profile = "{profile}"\norigin = "recorded"\nrows = 24\ncolumns = 80\nscreen_has = []\n'
    )


if __name__ == "__main__":
    main()
