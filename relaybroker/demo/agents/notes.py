"""A program that reads its terminal line by line and notes every line that arrives: notes.py RECEIVED_FILE."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Read and note until the terminal ends."""
    with Path(sys.argv[1]).open("a", encoding="utf-8", buffering=1) as received:
        print("notes agent ready", flush=True)  # noqa: T201 - this program talks to its terminal
        received.writelines(sys.stdin)


if __name__ == "__main__":
    main()
