"""A claude-like composer that works, and says so in its status row, until its file WORK is gone. Arguments: LOG WORK [HABIT].

Each submitted text is logged as JSON, with <esc> before it for each lone ESC since the last one. With the habit `stops` ESC ends the work;
with `gives-back` it also puts the last text there again, and two further ESC clear it. What it is typed while it works it keeps like any
other text.
"""

import json
import os
import select
import sys
import tty

import drawn

work = sys.argv[2]
tty.setraw(0)
drawn.start()
text, last, escapes, clears, worked = "", "", "", 0, None
while True:
    if worked != (working := os.path.exists(work)):
        worked = working
        drawn.composer(text, works=worked)
    if not select.select([0], [], [], 0.02)[0]:
        continue
    for key in drawn.keys(os.read(0, 65536).decode()):
        if key == "<esc>":
            escapes += key
            if sys.argv[3:] and os.path.exists(work):
                os.unlink(work)
                text, clears = (last if sys.argv[3] == "gives-back" else ""), 0
            elif text and (clears := clears + 1) == 2:
                text = ""
        elif key == "\r":
            drawn.record(json.dumps(escapes + text))
            last, text, escapes = text, "", ""
        else:
            text += key
    drawn.composer(text, works=worked)
