"""An agent that notes every line it gets, before anything else: note_taker.py FILE."""

import sys

with open(sys.argv[1], "a", encoding="utf-8", buffering=1) as notes:
    print("ready", flush=True)
    notes.writelines(sys.stdin)
