"""Splits terminal output into plain text and control sequences, whatever way the stream was cut into reads.

UTF-8 is decoded incrementally; a byte that is none becomes U+FFFD. Sequences without meaning for a screen (OSC, DCS,
APC,
charset selection, malformed CSI) are taken out here, so that the screen model sees only text and well-formed sequences.
Everything is bounded: a CSI has at most 200 characters of parameters, a string sequence is dropped as it comes.
Source: F098; ECMA-48; xterm's ctlseqs.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

MAX_STRING_BYTES = 64 * 1024
"""A picture of the terminal begins before a string sequence (OSC, DCS) that is open and not longer than this."""
_MAX_PARAMETERS = 200

_CSI_HEAD = rf"\[[<=>?]?[0-9;:]{{0,{_MAX_PARAMETERS}}}[ -/]{{0,4}}"
_SEQUENCE = re.compile(
    rf"""\x1b(?:
        \[(?P<private>[<=>?]?)(?P<parameters>[0-9;:]{{0,{_MAX_PARAMETERS}}})(?P<middle>[ -/]{{0,4}})(?P<final>[@-~])
      | (?P<string>[\]PX^_])
      | [ -/]{{1,4}}[0-~]
      | (?P<escape>[0-OQ-WYZ\\`-~])
    )""",
    re.VERBOSE,
)
_INCOMPLETE = re.compile(rf"\x1b(?:{_CSI_HEAD}|[ -/]{{1,4}})?\Z")
_MALFORMED = re.compile(rf"\x1b(?:{_CSI_HEAD}|[ -/]{{1,4}})?")
_STRING_END = re.compile(r"\x1b\\|[\x07\x9c\x18\x1a]|\x1b(?=[^\\])")
_UNSEEN = re.compile("[\x00\x7f-\x9f\x0e\x0f\x01-\x06\x10-\x1a\x1c-\x1f]+")

_LINE_END = re.compile(r"\r*\n|\r+")
_SPACE_OR_CONTROL = re.compile(r"[\s\x00-\x1f\x7f]+")


class Control(NamedTuple):
    """One complete control sequence: `ESC [ private parameters middle final`, or `ESC final` with `csi` false."""

    final: str
    parameters: tuple[int, ...] = ()
    private: str = ""
    middle: str = ""
    csi: bool = True


class SequenceSplitter:
    """Incremental splitter of one output stream; keeps one incomplete character and one incomplete sequence."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._carry = ""
        self._in_string = False
        self._string_bytes = 0
        """Of the string sequence that is open, from its ESC on."""
        self._escapes = 0
        """ESC characters in the last read from that one on; 0: it began in an earlier read."""

    @property
    def unfinished(self) -> int:
        """Bytes at the end of the stream that belong to something incomplete; none where a string is longer than `MAX_STRING_BYTES`."""
        if self._in_string:
            return self._string_bytes if self._string_bytes <= MAX_STRING_BYTES else 0
        return len(self._carry) + len(self._decoder.getstate()[0])

    @property
    def is_between(self) -> bool:
        """Whether the stream stands neither inside a sequence nor inside a character."""
        return not self._carry and not self._in_string and not self._decoder.getstate()[0]

    def feed(self, data: bytes) -> list[str | Control]:
        """The text runs and control sequences completed by `data`, in order. Never raises."""
        carried, self._escapes = self._carry, 0
        pieces = self._split(carried + self._decoder.decode(data))
        if self._in_string:
            self._string_bytes = (
                _from_escape(carried.encode() + data, self._escapes)
                if self._escapes
                else self._string_bytes + len(data)
            )
        return pieces

    def _split(self, text: str) -> list[str | Control]:
        self._carry = ""
        if not self._in_string and "\x1b" not in text:
            return [seen] if (seen := _visible(text)) else []
        pieces: list[str | Control] = []
        position = 0
        while position < len(text):
            if self._in_string:
                position = self._skip_string(text, position)
                continue
            start = text.find("\x1b", position)
            end = len(text) if start < 0 else start
            if run := _visible(text[position:end]):
                pieces.append(run)
            if start < 0:
                break
            position = self._sequence(text, start, pieces)
        return pieces

    def _skip_string(self, text: str, position: int) -> int:
        end = _STRING_END.search(text, position)
        if end is not None:
            self._in_string = False
            return end.start() if end.group() == "\x1b" else end.end()
        if text.endswith("\x1b"):
            self._carry = "\x1b"
        return len(text)

    def _sequence(self, text: str, start: int, pieces: list[str | Control]) -> int:
        match = _SEQUENCE.match(text, start)
        if match is not None:
            if match["string"]:
                self._in_string = True
                self._escapes = text.count("\x1b", start)
            elif match["final"]:
                pieces.append(Control(match["final"], _numbers(match["parameters"]), match["private"], match["middle"]))
            elif match["escape"]:
                pieces.append(Control(match["escape"], csi=False))
            return match.end()
        if _INCOMPLETE.match(text, start):
            self._carry = text[start:]
            return len(text)
        malformed = _MALFORMED.match(text, start)
        assert malformed is not None
        return malformed.end()


def _from_escape(data: bytes, count: int) -> int:
    """Bytes of `data` from its `count`-th last ESC on. No other character has that byte, whatever the encoding is worth."""
    start = len(data)
    for _ in range(count):
        start = data.rfind(b"\x1b", 0, start)
    return len(data) - start


def plain_text(data: bytes) -> str:
    """The text of `data` without control sequences; CR LF and CR are LF. For last words, not for the screen."""
    pieces = SequenceSplitter().feed(data)
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    return _LINE_END.sub("\n", text).replace("\x07", "").replace("\x08", "")


def without_spaces(text: str) -> str:
    """`text` without white space and control characters: how an echo is compared, since terminals wrap and indent."""
    return _SPACE_OR_CONTROL.sub("", text)


def _visible(run: str) -> str:
    return _UNSEEN.sub("", run)


def _numbers(parameters: str) -> tuple[int, ...]:
    if not parameters:
        return ()
    return tuple(min(int(part or 0), 9999) for part in parameters.replace(":", ";").split(";"))
