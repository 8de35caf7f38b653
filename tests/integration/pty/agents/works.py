"""A claude-like composer that works, and says so in its status row, until its file WORK is gone. Arguments: LOG WORK [stops].

Each submitted text is logged as JSON, with <esc> before it for each lone ESC since the last one; with `stops` ESC ends the work. What it is
typed while it works it keeps like any other text.
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
text, escapes, worked = "", "", None
while True:
    if worked != (working := os.path.exists(work)):
        worked = working
        drawn.composer(text, works=worked)
    if not select.select([0], [], [], 0.02)[0]:
        continue
    for key in drawn.keys(os.read(0, 65536).decode()):
        if key == "<esc>":
            escapes += key
            if sys.argv[3:] == ["stops"] and os.path.exists(work):
                os.unlink(work)
        elif key == "\r":
            drawn.record(json.dumps(escapes + text))
            text, escapes = "", ""
        else:
            text += key
    drawn.composer(text, works=worked)
