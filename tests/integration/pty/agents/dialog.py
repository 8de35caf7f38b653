"""Shows a trust dialog painted in pieces until `y` is typed, then a claude-like composer. Arguments: LOG.

Each key that arrives while the dialog is shown is logged as {"dialog": key}; each submitted text as JSON string.
"""

import json
import os
import sys
import tty


def record(entry):
    with open(sys.argv[1], "a") as log:
        log.write(entry + "\n")


tty.setraw(0)


def show(text):
    os.write(1, text.encode())


show("\x1b[2J\x1b[H\x1b[3;1HDo you tr\x1b[3;10Hust the files in this fol\x1b[3;35Hder?")
show("\x1b[5;1H 1. Yes, I trust\x1b[6;1H 2. No, exit\x1b[5;1H")
while True:
    key = os.read(0, 1).decode()
    record(json.dumps({"dialog": key}))
    if key == "y":
        break
show("\x1b[2J\x1b[H Welcome back, tester\x1b[?2004h\x1b[10;1H\u276f ")
typed = b""
while True:
    typed += os.read(0, 65536)
    show("\x1b[10;3H" + typed.replace(b"\x1b[200~", b"").replace(b"\x1b[201~", b"").decode().replace("\r", "")[-60:])
    while b"\r" in typed:
        line, _, typed = typed.partition(b"\r")
        record(json.dumps(line.decode()))
        show("\x1b[10;1H\x1b[2K\u276f ")
