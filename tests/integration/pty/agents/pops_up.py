"""A claude-like composer that shows a trust dialog as soon as it gets a text. Arguments: LOG [quiet: no dialog].

`y` ends the dialog. The composer keeps its text meanwhile; each submitted text is logged as JSON, with <esc> for a lone ESC.
"""

import json
import os
import sys
import tty

import drawn

tty.setraw(0)
text = ""
asked = len(sys.argv) > 2
dialog = False
drawn.start()
drawn.composer()
while True:
    got = os.read(0, 65536).decode()
    if dialog:
        if "y" in got:
            dialog = False
            drawn.composer(text)
        continue
    for key in drawn.keys(got):
        if key == "\r":
            drawn.record(json.dumps(text))
            text = ""
        else:
            text += key
    if text and not asked:
        asked = dialog = True
        drawn.menu()
    else:
        drawn.composer(text)
