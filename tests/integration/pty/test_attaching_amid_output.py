"""F121: a picture of the terminal, and what comes behind its offset, are together exactly what the program wrote."""

from __future__ import annotations

import base64
import sys

from relaybroker.adapters.sessions.terminal.screen import Terminal

BURST = """
import os, time
lines = []
for number in range(4000):
    colour, erase = 31 + number % 7, " \\x1b[2K" if number % 9 == 0 else ""
    title = f"\\x1b]0;title {number} \\u6f22\\x07" if number % 5 == 0 else ""
    lines.append(f"\\x1b[{colour}m{number:05} \\u6f22\\u5b57 \\x1b[1;4mline\\x1b[0m{erase}{title}\\r\\n")
whole = ("".join(lines) + "the end").encode()
for start in range(0, len(whole), 61):
    if start == 61 * 1500:
        os.read(0, 1)
    os.write(1, whole[start : start + 61])
time.sleep(600)
"""
PICTURES = 20


async def test_a_picture_taken_amid_a_burst_joins_the_stream_at_its_offset(broker):
    broker.subscribe()
    await broker.start(sys.executable, "-c", BURST, wait=None)
    await broker.until(lambda: broker.outputs, "the burst has begun")
    pictures = [await broker.screen(form="ansi") for _ in range(PICTURES)]
    await broker.keys(b"\r")  # it has waited for this in the middle
    pictures += [await broker.screen(form="ansi") for _ in range(PICTURES)]

    def whole():
        return b"".join(output.data for output in broker.outputs)

    await broker.until(lambda: whole().endswith(b"the end"), "all output")
    assert [output.offset for output in broker.outputs] == _starts(broker.outputs), "nothing doubled or missing"
    assert any(0 < picture.data["offset"] < len(whole()) for picture in pictures), "some were taken amid the burst"
    expected = _shown(whole())
    for picture in pictures:
        seen, offset = base64.b64decode(picture.data["screen"]), picture.data["offset"]
        assert _shown(seen) == _shown(whole()[:offset])
        assert _shown(seen + whole()[offset:]) == expected


def _starts(outputs):
    starts, at = [], 0
    for output in outputs:
        starts.append(at)
        at += len(output.data)
    return starts


def _shown(data):
    terminal = Terminal(24, 80)
    terminal.feed(data)
    terminal.settle()
    return terminal.plain()
