"""Text that deceives: what is taken out of a message, and what is marked in it, before it is shown to a person or a language model.

Three things can make a text seem to be what it is not, and each is answered once, here:

* **What cannot be seen.** Control, direction, tag and other invisible characters are dropped. Some of them do visible work in living
  scripts and emoji; those stay, one at a time, exactly where they do it (`_does_work`).
* **What looks like the broker's own words.** `Relay message from`, and tags that agents' programs give authority to, are found in the
  *folded* text: without invisible characters, accents and case, with look-alikes, forms and digits as the letters that they pass for,
  across any white space and quotation mark. The words get a mark that breaks them, the tag loses its bracket.
* **Names that end the header early or spell another name.** `name` leaves no bracket, no colon before a space, no `#` that begins a word
  and no line break in a name, and spells out words of look-alikes.

Everything that is dropped or changed is counted by kind (`ALTERATIONS`).

Source: spec/local-api.md section 11.5; spec/node-protocol.md section 6.5; ADR-0037.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from relaybroker.domain.lookalikes import LOOKALIKES, VARIANTS

ALTERATIONS = {
    "control": "control characters dropped",
    "direction": "marks of direction dropped",
    "invisible": "invisible characters dropped",
    "tag": "tag characters dropped",
    "variation": "variation selectors dropped",
    "header": "forged headers marked",
    "reminder": "tags of authority disarmed",
    "name": "names rewritten",
}
"""What is done to a text: the kind, and what was done so many times."""
MAX_NAME = 256
"""Characters of a name that are shown."""

# --- what cannot be seen --------------------------------------------------------------------------------------------------

_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_INVISIBLE = (
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200d\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
)
_VARIATION = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
_TAG = "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
_SUBDIVISIONS = ("gbeng", "gbsct", "gbwls")
"""The flags that are written with tag characters."""
_FLAGS = "|".join("".join(chr(0xE0000 + ord(letter)) for letter in code) for code in _SUBDIVISIONS)
_HIDDEN = re.compile(
    f"(?P<flag>\U0001f3f4(?:{_FLAGS})\U000e007f)|(?P<control>[{_CONTROL}])|(?P<direction>[{_DIRECTION}])"
    f"|(?P<variation>[{_VARIATION}])|(?P<tag>[{_TAG}])|(?P<invisible>[{_INVISIBLE}])"
)
_SUSPECT = re.compile(f"[{_CONTROL}{_DIRECTION}{_VARIATION}{_TAG}{_INVISIBLE}]")
_LINE_BREAKS = re.compile("\r\n|\r|\u2028|\u2029")

_ZWNJ, _ZWJ = "\u200c", "\u200d"
_MARKS_OF_DIRECTION = "\u061c\u200e\u200f"
_JOINING_SCRIPTS = re.compile(
    "[\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\u1a20-\u1aad\u1b00-\u1bff\ua840-\ua87f\ua8e0-\ua8ff\ua980-\ua9df"
    "\ufb50-\ufdff\ufe70-\ufefc\U00010d00-\U00010fff\U00011000-\U000119ff\U0001e900-\U0001e95f]"
)
"""Where joiners are written between letters: Arabic and its relatives, the scripts of India and South-East Asia, Mongolian."""
_PICTOGRAPH = re.compile(
    "[\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030\u303d\u3297\u3299"
    "\U0001f000-\U0001faff]"
)
_HAN = re.compile("[\u2e80-\u2fdf\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_MONGOLIAN = re.compile("[\u1820-\u18aa]")


def cleaned(text: str, altered: Counter[str]) -> str:
    """The text with LF for every line break and nothing in it that cannot be seen or could be a key; LF and TAB stay."""
    text = _LINE_BREAKS.sub("\n", text)
    if _is_plain(text) or not _SUSPECT.search(text):
        return text

    def judge(hidden: re.Match[str]) -> str:
        kind = hidden.lastgroup or ""
        if kind == "flag" or _does_work(hidden.string, hidden.start(), kind):
            return hidden.group()
        altered[kind] += 1
        return ""

    return _HIDDEN.sub(judge, text)


def _is_plain(text: str) -> bool:
    """A quick look: ASCII that can be seen."""
    return text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()


def _does_work(text: str, at: int, kind: str) -> bool:
    """Whether the invisible character there changes what its neighbours look like, as its script or emoji are written."""
    sign, before, after = text[at], text[max(at - 1, 0) : at], text[at + 1 : at + 2]
    if sign in (_ZWNJ, _ZWJ):
        if _JOINING_SCRIPTS.match(before):
            return True
        is_emoji = before == "\ufe0f" or _PICTOGRAPH.match(before) is not None
        return sign == _ZWJ and is_emoji and _PICTOGRAPH.match(after) is not None
    if sign in _MARKS_OF_DIRECTION:
        return not _HIDDEN.match(before) and _is_right_to_left(text, at)
    if sign in "\ufe0e\ufe0f":
        return _PICTOGRAPH.match(before) is not None or (before in "#*0123456789" and after == "\u20e3")
    if sign == "\u180e" or "\u180b" <= sign <= "\u180f":
        return _MONGOLIAN.match(before) is not None
    return kind == "variation" and _HAN.match(before) is not None


def _is_right_to_left(text: str, at: int) -> bool:
    line = text[text.rfind("\n", 0, at) + 1 :].partition("\n")[0]
    return any(unicodedata.bidirectional(sign) in ("R", "AL") for sign in line if sign not in _MARKS_OF_DIRECTION)


# --- what it looks like -----------------------------------------------------------------------------------------------------

_LOOKS = {sign: look for table in (VARIANTS, LOOKALIKES) for look, signs in table.items() for sign in signs}
_BLANKS = "\u2800\u115f\u1160\u3164\uffa0"
_UNREAD = ("Cc", "Cf", "Cs", "Me", "Mn")
"""Categories that are not read as letters: accents, and what cannot be seen."""
_LONG_S = "\u017f"
"""Passes for `s` and for `f`."""
_ONE_LETTER = {"1": "l", "|": "l", "i": "l", "!": "l", "0": "o", "3": "e", "4": "a", "@": "a", "5": "s", "$": "s"}
_ONE_LETTER |= {"7": "t", "m": "rn"}
"""After case is gone: signs that are read as the same letter, and the letter that is two."""


_FOLDED_KEPT = 16384
"""Characters whose reading is remembered."""


class _Folding(dict[int, str]):
    """Code of a character -> what it is read as; for `str.translate`."""

    def __missing__(self, code: int) -> str:
        read_as = "".join(_read(sign) for sign in _decomposed(chr(code)))
        if len(self) < _FOLDED_KEPT:
            self[code] = read_as
        return read_as


def _decomposed(sign: str) -> str:
    return sign if sign == _LONG_S else unicodedata.normalize("NFKD", sign)


def _read(sign: str) -> str:
    if sign.isspace() or sign in _BLANKS:
        return " "
    if unicodedata.category(sign) in _UNREAD or _SUSPECT.match(sign):
        return ""
    if sign == _LONG_S:
        return sign
    look = _LOOKS.get(sign) or _LOOKS.get(sign.casefold()) or sign
    if look == sign and unicodedata.category(sign) == "Mc":
        return ""
    return "".join(_ONE_LETTER.get(letter, letter) for letter in look.casefold())


_FOLDING = _Folding()

_ASCII = bytes(ord(_FOLDING[code][-1:] or " ") if _FOLDING[code] != "rn" else ord("m") for code in range(128)) + bytes(
    128
)
_UNREAD_ASCII = bytes(code for code in range(128) if not _FOLDING[code])


def _folded(text: str) -> str:
    """The text as it is read; most texts are ASCII, and that goes faster."""
    if text.isascii():
        return text.encode().translate(_ASCII, _UNREAD_ASCII).replace(b"m", b"rn").decode()
    return text.translate(_FOLDING)


_BETWEEN = r"[\s*_~`\"'>()\[\]{}#-]*"
"""What may stand between two letters of a word that is still read as that word."""


def _reads(words: str) -> str:
    """The pattern of words in a folded text."""
    letters = _folded(words.replace(" ", ""))
    return _BETWEEN.join({"s": f"[s{_LONG_S}]", "f": f"[f{_LONG_S}]"}.get(letter, letter) for letter in letters)


_HEADER = re.compile(f"{_reads('relay message')}{_BETWEEN}(?P<broken>{_reads('from')})")
_AUTHORITY = "|".join(_reads(words) for words in ("system reminder", "pasted content"))
"""Names of tags that agents' programs put around what they themselves say or were given."""
_IN_TAG = r"[\s*_~`\"'>-]*"
_REMINDER = re.compile(f"<{_IN_TAG}/?{_IN_TAG}(?:{_AUTHORITY})")
QUOTED = "(quoted) "


def disarmed(text: str, altered: Counter[str]) -> str:
    """The text without anything that reads like the broker's header or like a tag of authority.

    `Relay message from` becomes `Relay message (quoted) from`, and `<system-reminder` becomes `[system-reminder`.
    """
    read = _folded(text)
    headers, tags = list(_HEADER.finditer(read)), list(_REMINDER.finditer(read))
    if not headers and not tags:
        return text
    altered.update({kind: len(matches) for kind, matches in (("header", headers), ("reminder", tags)) if matches})
    origin = [at for at, sign in enumerate(text) for _ in _FOLDING[ord(sign)]]
    signs = list(text)
    for tag in tags:
        signs[origin[tag.start()]] = "["
    for header in headers:
        at = origin[header.start("broken")]
        signs[at] = (QUOTED if not at or text[at - 1].isspace() else f" {QUOTED}") + signs[at]
    return "".join(signs)


# --- names ------------------------------------------------------------------------------------------------------------------

_IN_NAMES = {"[": "(", "]": ")", "<": "(", ">": ")", '"': "'", "`": "'", "''": "'"}
_ORDINARY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""A name that is nothing else; nearly every one is."""
_WORD = re.compile(r"\w+")
_NATIVE = "\u024f"
"""Up to here letters belong to languages that are written in Latin letters; none is taken for a look-alike."""


def name(text: str, altered: Counter[str], *, blank: str = " ") -> str:
    """A sender, channel, thread or message id on one line, that neither ends the header early nor spells another name.

    Args:
        text: as it came.
        altered: counts what is changed.
        blank: what stands for white space.
    """
    if _ORDINARY.fullmatch(text) and not _HEADER.search(_folded(text)):
        return text
    given = text.strip()
    plain = "".join(_IN_NAMES.get(_sight(sign), sign) for sign in cleaned(given, altered))
    plain = blank.join(disarmed(" ".join(plain.split()), Counter()).split())
    plain = "".join("_" if _ends_or_begins(plain, at, sign) else sign for at, sign in enumerate(plain))
    plain = _WORD.sub(_spelled, plain)
    if len(plain) > MAX_NAME:
        plain = f"{plain[: MAX_NAME - 1]}\u2026"
    if plain != given:
        altered["name"] += 1
    return plain


def _sight(sign: str) -> str:
    """What a character looks like, with its case and accents."""
    return "".join(_LOOKS.get(part, part) for part in unicodedata.normalize("NFKD", sign))


def _ends_or_begins(plain: str, at: int, sign: str) -> bool:
    """A colon at the end of a word, or a `#` at its beginning."""
    before, after = plain[max(at - 1, 0) : at], plain[at + 1 : at + 2]
    return (_sight(sign) == ":" and not after.strip()) or (_sight(sign) == "#" and not before.strip())


def _spelled(word: re.Match[str]) -> str:
    """A word that is not written in ASCII and looks as if it were, with its look-alikes spelled out; any other word as it is."""
    letters = word.group()
    if letters.isascii() or not all(_sight(sign).isascii() for sign in letters) or max(letters) <= _NATIVE:
        return letters
    return "".join(sign if sign <= _NATIVE else f"{{U+{ord(sign):04X}}}" for sign in letters)
