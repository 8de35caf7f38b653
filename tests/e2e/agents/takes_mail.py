"""A program with an entrance of its own beside its terminal: takes_mail.py HOLD.

It writes down what it got (`got`), what it took (`took`) and what was typed (`typed`). While the file HOLD exists, it takes nothing.
Upon a message with `MAY I` it asks whether it may, and writes down what it asks (`asks`) and what was answered (`answered`).
"""

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

HOLD = Path(sys.argv[1])
TRANSCRIPT = Path(os.environ["OWN_DOOR_TRANSCRIPT"])
WRITING = threading.Lock()


def note(**row):
    with WRITING, TRANSCRIPT.open("a", encoding="utf-8") as transcript:
        transcript.write(json.dumps(row) + "\n")


def serve(entrance):
    while True:
        connection, _ = entrance.accept()
        with connection:
            mail = json.loads(connection.makefile("rb").readline())
            if "answer" in mail:
                note(answered=mail["answer"], option=mail["option"])
                continue
            note(got=mail["id"])
        while HOLD.exists():
            time.sleep(0.005)
        note(took=mail["id"], text=mail["text"])
        if "MAY I" in mail["text"]:
            options = [["once", "Yes, once", "allow_once"], ["never", "No, never", "reject_always"]]
            note(asks=f"ask {mail['id']}", text="May I?", options=options)


note(pid=os.getpid())
with socket.socket(socket.AF_UNIX) as listening:
    entrance = Path(os.environ["OWN_DOOR_SOCKET"])
    os.chdir(entrance.parent)
    listening.bind(entrance.name)
    listening.listen()
    threading.Thread(target=serve, args=(listening,), daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        note(typed=line.strip())
