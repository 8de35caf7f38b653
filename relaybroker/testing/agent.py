"""A scripted agent for tests with a live broker: notes every line that it gets, before anything else.

    python -m relaybroker.testing.agent NOTES [--boots S] [--works S] [--exits-on TEXT] [--answers] [--deaf]

| option | what it does |
|---|---|
| `--boots S` | takes S seconds until it reads |
| `--works S` | works S seconds on each line before it reads the next |
| `--exits-on TEXT` | ends with status 3 when a line contains TEXT |
| `--answers` | answers each message to its sender, through the engine, as itself |
| `--deaf` | reads nothing |
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
import urllib.request
from pathlib import Path

_HEADER = re.compile(r"Relay message from (?P<sender>\S+)(?: in \S+)? \[(?P<id>[^\] ]+)[^\]]*\]: (?P<body>.*)")


def main() -> None:
    """Read and note until the terminal ends."""
    parser = argparse.ArgumentParser(prog="relaybroker.testing.agent")
    parser.add_argument("notes", type=Path)
    parser.add_argument("--boots", type=float, default=0.0)
    parser.add_argument("--works", type=float, default=0.0)
    parser.add_argument("--exits-on", default="")
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--deaf", action="store_true")
    options = parser.parse_args()
    time.sleep(options.boots)
    with options.notes.open("a", encoding="utf-8", buffering=1) as notes:
        _say("ready")
        if options.deaf:
            signal.pause()
        for line in sys.stdin:
            notes.write(line)
            if options.exits_on and options.exits_on in line:
                sys.exit(3)
            time.sleep(options.works)
            if options.answers and (header := _HEADER.search(line)):
                _answer(header["sender"], f"I am {os.environ['RELAY_AGENT_NAME']}; you said: {header['body'].strip()}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _answer(sender: str, text: str) -> None:
    request = urllib.request.Request(  # noqa: S310 - the engine's address, given by the broker
        f"{os.environ['RELAY_BASE_URL']}/v1/dm",
        data=json.dumps({"to": sender, "text": text}).encode(),
        headers={"Authorization": f"Bearer {os.environ['RELAY_AGENT_TOKEN']}", "Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - as above
        response.read()


if __name__ == "__main__":
    main()
