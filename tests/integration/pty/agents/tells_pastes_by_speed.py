"""A raw program without bracketed paste: fast keys are a paste to it, and an Enter among them a line break. Arguments: LOG CONTINUED.

It answers each submitted text, and shows CONTINUED at the beginning of a further line. Each submitted text is logged as JSON.
"""

import json
import os
import sys
import time
import tty

BURST_S = 0.12
FEW = 3


def show(text):
    os.write(1, text.encode())


def main(log, continued):
    tty.setraw(0)
    show("> ")
    text, burst, last = "", 0, 0.0
    while data := os.read(0, 65536).decode():
        now = time.monotonic()
        for key in data:
            burst = burst + 1 if now - last < BURST_S else 1
            last = now
            if key != "\r":
                text += key
                show(key)
            elif burst > FEW:
                text += "\n"
                show(f"\r\n{continued}")
            else:
                with open(log, "a", encoding="utf-8") as notes:
                    notes.write(json.dumps(text) + "\n")
                show(f"\r\nI have read {len(text)} characters\r\n> ")
                text = ""


main(*sys.argv[1:3])
