"""A small scripted chat agent: reads its terminal line by line, and answers questions through the engine's REST API.

Usage: chat.py RECEIVED_FILE. Every line that arrives is appended to the file before anything else happens.
"""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from pathlib import Path

_HEADER = re.compile(r"Relay message from (?P<sender>\S+)(?: in #\S+)? \[(?P<id>\d+)[^\]]*\]: (?P<body>.*)")


def _answer(sender: str, text: str) -> None:
    request = urllib.request.Request(  # noqa: S310 - the engine's address, given by the broker
        f"{os.environ['RELAY_BASE_URL']}/v1/dm",
        data=json.dumps({"to": sender, "text": text}).encode(),
        headers={"Authorization": f"Bearer {os.environ['RELAY_AGENT_TOKEN']}", "Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - as above
        response.read()


def main() -> None:
    """Read, note, answer, until the terminal ends."""
    with Path(sys.argv[1]).open("a", encoding="utf-8", buffering=1) as received:
        print("chat agent ready", flush=True)  # noqa: T201 - this program talks to its terminal
        for line in sys.stdin:
            received.write(line)
            header = _HEADER.search(line)
            if header and header["body"].rstrip().endswith("?"):
                _answer(header["sender"], f"I am {os.environ['RELAY_AGENT_NAME']}, you asked: {header['body'].strip()}")


if __name__ == "__main__":
    main()
