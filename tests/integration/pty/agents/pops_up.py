"""A claude-like composer that shows a trust dialog as soon as it gets a text. Arguments: LOG [quiet: no dialog].

`y` ends the dialog. The composer keeps its text meanwhile; each submitted text is logged as JSON, with <esc> for a lone ESC.
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


def composer():
    show(f"\x1b[2J\x1b[H Welcome back, tester\x1b[?2004h\x1b[10;1H\u276f {text}")


text = ""
asked = len(sys.argv) > 2
dialog = False
composer()
while True:
    got = os.read(0, 65536).decode()
    if dialog:
        if "y" in got:
            dialog = False
            composer()
        continue
    for mark in ("\x1b[200~", "\x1b[201~"):
        got = got.replace(mark, "")
    for key in got.replace("\x1b", "\x00"):
        if key == "\r":
            record(json.dumps(text))
            text = ""
        else:
            text += "<esc>" if key == "\x00" else key
    composer()
    if text and not asked:
        asked = dialog = True
        show("\x1b[2J\x1b[3;1HDo you trust the files in this folder?\x1b[5;1H 1. Yes, I trust\x1b[6;1H 2. No, exit")
