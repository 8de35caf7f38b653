"""Pins the letters that pass for others: `python -m tests.pin_lookalikes` writes domain/lookalikes.py.

From the confusables of UTS #39 (`confusable_homoglyphs`), and for what they leave out (small capitals, letters with strokes and hooks,
letters in circles and squares) from the names of the characters. Pinned, so that a text is composed the same on every machine and by every
later version of either source (ADR-0037).
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from confusable_homoglyphs.confusables import confusables_data

MODULE = Path(__file__).parents[1] / "domain" / "lookalikes.py"
HEAD = '''"""Characters that pass for ASCII ones, by what they pass for. Made by `python -m tests.pin_lookalikes`; do not edit.

What a compatibility decomposition (NFKD) says already is left out. Source: UTS #39 and the names of the characters; ADR-0037.
"""

from __future__ import annotations

'''
_NAMED = re.compile(
    r"LATIN (?:CAPITAL LETTER|SMALL LETTER|LETTER SMALL CAPITAL|LETTER) "
    r"(?:SMALL CAPITAL |DOTLESS |LONG |SCRIPT |OPEN |BARRED |INSULAR |BLACKLETTER )*([A-Z])(?: ROTUNDA)?(?: WITH .+)?"
    r"|(?:NEGATIVE )?(?:CIRCLED|SQUARED|PARENTHESIZED) LATIN (?:CAPITAL|SMALL) LETTER ([A-Z])"
    r"|REGIONAL INDICATOR SYMBOL LETTER ([A-Z])"
)
_FORMS = {
    "<": "\u00ab\u226a\u227a\u22d6\u276c\u27e8\u27ea\u29fc\u3008\u300a",
    ">": "\u00bb\u226b\u227b\u22d7\u276d\u27e9\u27eb\u29fd\u3009\u300b",
    "[": "\u2045\u23a1\u2772\u27e6\u3010\u3014\u3016\u3018\u301a",
    "]": "\u2046\u23a4\u2773\u27e7\u3011\u3015\u3017\u3019\u301b",
    "f": "\u0492\u0493",
    "m": "\u041c\u043c",
    "s": "\u01a7\u01a8",
    "e": "\u01dd\u0258\u0259\u025b\u03b5\u0437\u04d9\u20ac",
}
"""What has no name or data of its own to say it."""


def confusables() -> dict[str, str]:
    """Character -> what it looks like, in ASCII."""
    looks_like = {}
    for written, others in confusables_data.items():
        sign = written.strip("\u200e")
        looks = [other["c"] for other in others if other["c"].isascii()]
        if len(sign) == 1 and not sign.isascii() and looks and unicodedata.normalize("NFKD", sign) != looks[0]:
            looks_like[sign] = looks[0]
    return looks_like


def variants(known: dict[str, str]) -> dict[str, str]:
    """Character -> the letter or bracket that it is a form of, where it does not look the same."""
    letters = {sign: look for look, signs in _FORMS.items() for sign in signs}
    for sign in map(chr, range(128, sys.maxunicode + 1)):
        if (match := _NAMED.fullmatch(unicodedata.name(sign, ""))) and not unicodedata.normalize("NFKD", sign)[
            0
        ].isascii():
            letters[sign] = next(filter(None, match.groups())).lower()
    for sign, letter in list(letters.items()):
        for other in confusables_data.get(sign, ()):
            if len(other["c"]) == 1 and not other["c"].isascii():
                letters.setdefault(other["c"], letter)
    return {sign: letter for sign, letter in sorted(letters.items()) if sign not in known}


def table(name: str, meaning: str, pairs: dict[str, str]) -> Iterator[str]:
    """The lines of one table."""
    by_look: dict[str, list[str]] = {}
    for sign, look in sorted(pairs.items()):
        by_look.setdefault(look, []).append(sign)
    yield f"{name}: dict[str, str] = {{\n"
    for look, signs in sorted(by_look.items()):
        written = [ascii(sign)[1:-1] for sign in signs]
        rows = ["".join(written[start : start + 9]) for start in range(0, len(written), 9)]
        key = '"\'"' if look == "'" else f'"{look}"'.replace("\\", "\\\\")
        yield f"    {key}: {_joined(rows)},\n"
    yield f'}}\n"""{meaning}"""\n'


def _joined(rows: list[str]) -> str:
    return f'"{rows[0]}"' if len(rows) == 1 else "(\n" + "".join(f'        "{row}"\n' for row in rows) + "    )"


def module() -> str:
    """The text of the module."""
    same = confusables()
    return "".join(
        [
            HEAD,
            *table("LOOKALIKES", "ASCII -> characters that cannot be told from it (UTS #39).", same),
            "\n",
            *table(
                "VARIANTS", "ASCII -> forms of the same letter or bracket that can be told from it.", variants(same)
            ),
        ]
    )


if __name__ == "__main__":
    MODULE.write_text(module(), encoding="utf-8")
    print(f"{MODULE} is written")
