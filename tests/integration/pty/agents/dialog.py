"""Shows a trust dialog painted in pieces until `y` is typed, then a claude-like composer. Arguments: LOG.

Each key that arrives while the dialog is shown is logged as {"dialog": key}; each submitted text as JSON string with the marks of a paste.
"""

import json
import os
import tty

import drawn

tty.setraw(0)
drawn.show("\x1b[2J\x1b[H\x1b[3;1H Do you tr\x1b[3;11Hust the files in this fol\x1b[3;36Hder?")
drawn.show("\x1b[5;1H ❯ 1. Yes, I trust\x1b[6;1H   2. No, exit\x1b[5;2H")
while True:
    key = os.read(0, 1).decode()
    drawn.record(json.dumps({"dialog": key}))
    if key == "y":
        break
drawn.start()
drawn.composer()
typed = ""
while True:
    typed += os.read(0, 65536).decode()
    drawn.composer("".join(drawn.keys(typed)).replace("\r", ""))
    while "\r" in typed:
        line, _, typed = typed.partition("\r")
        drawn.record(json.dumps(line))
        drawn.composer()
