"""An agent that works on each line for a while before it reads the next: slow_reader.py FILE SECONDS."""

import sys
import time

with open(sys.argv[1], "a", encoding="utf-8", buffering=1) as notes:
    print("ready", flush=True)
    for line in sys.stdin:
        notes.write(line)
        time.sleep(float(sys.argv[2]))
