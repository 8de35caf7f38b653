"""What the scripted agents draw: a composer as Claude Code 2.1 has it, and a menu as it asks."""

import os
import sys

CLEAR = "\x1b[?2026h\x1b[2J\x1b[H"
TOP = 10
WIDTH = 80


def show(text):
    os.write(1, text.encode())


def start():
    """Ask for bracketed paste, as line editors do when they have the keyboard."""
    show("\x1b[?2004h")


def composer(text="", *, works=False, above=()):
    """Draw the whole screen; the cursor ends behind the text."""
    rows = [part for line in text.split("\n") for part in (_cut(line) or [""])][-8:]
    rule = "─" * WIDTH
    status = "  ⏸ manual mode on" + (" · esc to interrupt" if works else " · ? for shortcuts")
    out = [CLEAR, "\x1b[2;1H ▐▛███▛█   Claude Code v2.1.332"]
    for number, line in enumerate(above, 4):
        out.append(f"\x1b[{number};1H{line}")
    if works:
        out.append("\x1b[8;1H✻ Whatchamacalliting…")
    out.append(f"\x1b[{TOP};1H{rule}")
    for number, row in enumerate(rows):
        out.append(f"\x1b[{TOP + 1 + number};1H{'  ' if number else '❯ '}{row}")
    bottom = TOP + 1 + len(rows)
    out.append(f"\x1b[{bottom};1H{rule}\x1b[{bottom + 1};1H{status}")
    out.append(f"\x1b[{bottom - 1};{3 + min(len(rows[-1]), WIDTH - 3)}H\x1b[?2026l")
    show("".join(out))


def _cut(line):
    return [line[at : at + WIDTH - 4] for at in range(0, len(line), WIDTH - 4)]


def menu(title="Do you trust the files in this folder?", options=("Yes, I trust this folder", "No, exit")):
    """Draw a question; the cursor stands on its first answer."""
    rows = [f"\x1b[{6 + number};1H {'❯' if number == 0 else ' '} {text}" for number, text in enumerate(options)]
    show(f"{CLEAR}\x1b[4;1H {title}{''.join(rows)}\x1b[9;1H Enter to confirm · Esc to cancel\x1b[6;2H\x1b[?2026l")


def keys(got):
    """The keys of what was read; the marks of a paste are none, a lone ESC is <esc>."""
    for mark in ("\x1b[200~", "\x1b[201~"):
        got = got.replace(mark, "")
    return ["<esc>" if key == "\x1b" else key for key in got]


def record(entry):
    with open(sys.argv[1], "a") as log:
        log.write(entry + "\n")
