"""A claude-like composer that works, and says so, until its file WORK is gone. Arguments: LOG WORK.

Each submitted text is logged as JSON, with <esc> for a lone ESC. What it is typed while it works it keeps like any other text.
"""

import json
import os
import select
import sys
import tty

_, log_path, work = sys.argv
tty.setraw(0)


def show(text):
    os.write(1, text.encode())


def paint(text):
    working = "✻ Thinking… (3s · esc to interrupt)" if os.path.exists(work) else ""
    show(f"\x1b[2J\x1b[H Welcome back, tester\x1b[?2004h\x1b[8;1H{working}\x1b[10;1H\u276f {text}")


text, worked = "", None
while True:
    if worked != (working := os.path.exists(work)):
        worked = working
        paint(text)
    if not select.select([0], [], [], 0.02)[0]:
        continue
    got = os.read(0, 65536).decode()
    for mark in ("\x1b[200~", "\x1b[201~"):
        got = got.replace(mark, "")
    for key in got.replace("\x1b", "\x00"):
        if key == "\r":
            with open(log_path, "a") as log:
                log.write(json.dumps(text) + "\n")
            text = ""
        else:
            text += "<esc>" if key == "\x00" else key
    paint(text)
