"""Asks its terminal where the cursor is, whenever it gets a key, and logs every byte it gets. Arguments: LOG."""

import json
import os
import sys
import tty


def record(entry):
    with open(sys.argv[1], "a") as log:
        log.write(entry + "\n")


tty.setraw(0)
os.write(1, b"ready\x1b[?2004h\x1b[6n")
while True:
    got = os.read(0, 65536)
    record(json.dumps(got.decode("latin-1")))
    if b"K" in got or b"text" in got:
        os.write(1, b".\x1b[6n\x1b[c")
