"""A claude-like composer that does not take every text or Enter as it comes. Arguments: LOG HABIT.

HABIT: `swallows` the first Enter of each text; `joins` an Enter that comes within 50 ms of a text to it, as a part of a paste; `flushes`
what it was typed before its composer had stood for half a second; `completes` a last word that begins with @ with the first Enter; `keeps`
its text whatever comes, until the file LOG.go exists; `ignores` all that it reads until then, or `forgets` it when it has shown it for no
time at all; `misplaces` its cursor at SIGUSR1, until its terminal has another size. DEL rubs
out, other control keys do nothing. Each submitted text is logged as JSON.
"""

import json
import os
import select
import signal
import sys
import termios
import time
import tty

import drawn

REPAINT_S = 0.3
CONTROL = dict.fromkeys(range(32))


class Composer:
    """The text and what becomes of Enter."""

    def __init__(self, log, habit):
        self.go = f"{log}.go"
        self.habit = habit
        self.text = ""
        self.swallowed = False
        self.typed_at = 0.0

    def key(self, key):
        if key == "\x7f":
            self.text = self.text[:-1]
        elif key >= " ":
            self.text += key
            self.typed_at = time.monotonic()
        elif key == "\r" and self.text and self.submits():
            drawn.record(json.dumps(self.text))
            self.text, self.swallowed = "", False

    def listens(self):
        return self.habit not in ("ignores", "forgets") or os.path.exists(self.go)

    def submits(self):
        if self.habit == "swallows" and not self.swallowed:
            self.swallowed = True
        elif self.habit == "joins" and time.monotonic() - self.typed_at < 0.05:
            self.text += "\n"
        elif self.habit == "completes" and self.text.split(" ")[-1].startswith("@"):
            self.text += "-completed "
        elif self.habit == "repaints" and not self.swallowed:
            self.swallowed = True
            self.text += "\n"
            drawn.composer("")
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(REPAINT_S)
        else:
            return self.habit != "keeps" or os.path.exists(self.go)
        return False


tty.setraw(0)
drawn.start()
drawn.composer()
composer = Composer(*sys.argv[1:3])
signal.signal(signal.SIGUSR1, lambda *_: drawn.show("\x1b[1;1H"))
signal.signal(signal.SIGWINCH, lambda *_: drawn.composer(composer.text))
if composer.habit == "flushes":
    time.sleep(0.5)
    termios.tcflush(0, termios.TCIFLUSH)
while True:
    if select.select([0], [], [], 0.05)[0]:
        got = os.read(0, 65536).decode()
        if composer.habit == "forgets" and not os.path.exists(composer.go):
            drawn.show(f"\x1b[1;1H{got.translate(CONTROL)}{drawn.CLEAR}")
        for key in drawn.keys(got) if composer.listens() else ():
            composer.key(key)
        drawn.composer(composer.text)
