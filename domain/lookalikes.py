"""Characters that pass for ASCII ones, by what they pass for. Made by `python -m tests.pin_lookalikes`; do not edit.

What a compatibility decomposition (NFKD) says already is left out. Source: UTS #39 and the names of the characters; ADR-0037.
"""

from __future__ import annotations

LOOKALIKES: dict[str, str] = {
    " ": "\u1680",
    "!": "\u01c3\u2d51",
    "&": "\ua778",
    "'": (
        "\xb4\u02b9\u02bb\u02bc\u02bd\u02be\u02c8\u02ca\u02cb"
        "\u02f4\u0374\u0384\u055a\u055d\u05d9\u05f3\u07f4\u07f5"
        "\u144a\u16cc\u1fbd\u1fbf\u1fef\u1ffd\u1ffe\u2018\u2019"
        "\u201b\u2032\u2035\ua78c\uff40\U00016f51\U00016f52"
    ),
    "''": ("\u02ba\u02dd\u02ee\u02f6\u05f2\u05f4\u1cd3\u201c\u201d\u201f\u2033\u2036\u3003\uff02"),
    "'''": "\u2034\u2037",
    "''''": "\u2057",
    "'B": "\u0181",
    "'D": "\u018a",
    "'P": "\u01a4",
    "'T": "\u01ac",
    "'Y": "\u01b3",
    "'n": "\u0149",
    "(": "\u2768\u2772\u3014\ufd3e\uff3b",
    "((": "\u2e28",
    "(2O)": "\u2487",
    "(S)": "\U0001f12a",
    "(l)": "\u2474\U0001f118",
    "(l2)": "\u247f",
    "(l3)": "\u2480",
    "(l4)": "\u2481",
    "(l5)": "\u2482",
    "(l6)": "\u2483",
    "(l7)": "\u2484",
    "(l8)": "\u2485",
    "(l9)": "\u2486",
    "(lO)": "\u247d",
    "(ll)": "\u247e",
    "(rn)": "\u24a8",
    ")": "\u2769\u2773\u3015\ufd3f\uff3d",
    "))": "\u2e29",
    "*": "\u066d\u204e\u2217\U0001031f",
    "+": "\u16ed\u2795\U0001029b",
    ",": "\xb8\u060d\u066b\u201a\ua4f9",
    "-": ("\u02d7\u06d4\u2010\u2011\u2012\u2013\u2043\u2212\u2796\u2cba\ufe58"),
    "-.": "\ua4fe",
    ".": "\u0660\u06f0\u0701\u0702\ua4f8\ua60e\U00010a50\U0001d16d",
    ".,": "\ua4fb",
    "..": "\ua4fa",
    "/": ("\u1735\u2041\u2044\u2215\u2571\u27cb\u29f8\u2cc6\u2f03\u3033\u30ce\u31d3\u4e3f\U0001d23a"),
    "//": "\u2afd",
    "///": "\u2afb",
    "2": "\u01a7\u03e8\u14bf\ua644\ua6ef\ua75a",
    "2O.": "\u249b",
    "3": ("\u01b7\u021c\u0417\u04e0\u2ccc\ua76a\ua7ab\U000118ca\U00016f3b\U0001d206"),
    "4": "\u13ce\U000118af",
    "5": "\u01bc\U000118bb",
    "6": "\u0431\u13ee\u2cd2\U000118d5",
    "7": "\U000104d2\U000118c6\U0001d212",
    "8": "\u0222\u0223\u09ea\u0a6a\u0b03\U0001031a\U0001e8cb",
    "9": "\u09ed\u0a67\u0b68\u0d6d\u2cca\ua76e\U000118ac\U000118cc\U000118d6",
    ":": ("\u02d0\u02f8\u0589\u05c3\u0703\u0704\u0903\u0a83\u16ec\u1803\u1809\u205a\u2236\ua4fd\ua789\ufe30"),
    "<": "\u02c2\u1438\u16b2\u2039\u276e\U0001d236",
    "<<": "\u226a",
    "<<<": "\u22d8",
    "=": "\u1400\u2e40\u30a0\ua4ff",
    ">": "\u02c3\u1433\u203a\u276f\U00016f3f\U0001d237",
    "><": "\u2aa5",
    ">>": "\u226b\u2a20",
    ">>>": "\u22d9",
    "?": "\u0241\u0294\u097d\u13ae\ua6eb",
    "A": ("\u0391\u0410\u13aa\u15c5\ua4ee\U000102a0\U00016f40\U0001d6a8\U0001d6e2\U0001d71c\U0001d756\U0001d790"),
    "AA": "\ua732",
    "AE": "\xc6\u04d4",
    "AO": "\ua734",
    "AR": "\U0001f707",
    "AU": "\ua736",
    "AV": "\ua738\ua73a",
    "AY": "\ua73c",
    "B": (
        "\u0392\u0412\u13f4\u15f7\ua4d0\ua7b4\U00010282\U000102a1\U00010301"
        "\U0001d6a9\U0001d6e3\U0001d71d\U0001d757\U0001d791"
    ),
    "C": ("\u03f9\u0421\u13df\u2ca4\ua4da\U000102a2\U00010302\U00010415\U0001051c\U000118e9\U000118f2\U0001f74c"),
    "C'": "\u0187",
    "D": "\u13a0\u15de\u15ea\ua4d3",
    "E": (
        "\u0395\u0415\u13ac\u22ff\u2d39\ua4f0\U00010286\U000118a6\U000118ae"
        "\U0001d6ac\U0001d6e6\U0001d720\U0001d75a\U0001d794"
    ),
    "F": ("\u03dc\u15b4\ua4dd\ua798\U00010287\U000102a5\U00010525\U000118a2\U000118c2\U0001d213\U0001d7ca"),
    "G": "\u050c\u13c0\u13f3\ua4d6",
    "G'": "\u0193",
    "H": ("\u0397\u041d\u13bb\u157c\u2c8e\ua4e7\U000102cf\U0001d6ae\U0001d6e8\U0001d722\U0001d75c\U0001d796"),
    "J": "\u037f\u0408\u13ab\u148d\ua4d9\ua7b2",
    "K": ("\u039a\u041a\u13e6\u16d5\u2c94\ua4d7\U00010518\U0001d6b1\U0001d6eb\U0001d725\U0001d75f\U0001d799"),
    "K'": "\u0198",
    "L": ("\u13de\u14aa\u2cd0\ua4e1\U0001041b\U00010526\U000118a3\U000118b2\U00016f16\U0001d22a"),
    "M": (
        "\u039c\u03fa\u041c\u13b7\u15f0\u16d6\u2c98\ua4df\U000102b0"
        "\U00010311\U0001d6b3\U0001d6ed\U0001d727\U0001d761\U0001d79b"
    ),
    "MB": "\U0001f76b",
    "N": "\u039d\u2c9a\ua4e0\U00010513\U0001d6b4\U0001d6ee\U0001d728\U0001d762\U0001d79c",
    "O": (
        "\u039f\u041e\u0555\u07c0\u09e6\u0b20\u0b66\u12d0\u2c9e"
        "\u2d54\u3007\ua4f3\U00010292\U000102ab\U00010404\U000104c2\U00010516\U000114d0"
        "\U000118b5\U000118e0\U0001d6b6\U0001d6f0\U0001d72a\U0001d764\U0001d79e\U0001d7ce\U0001d7d8"
        "\U0001d7e2\U0001d7ec\U0001d7f6\U0001fbf0"
    ),
    "O'": "\u01a0\u13a4",
    "O,": "\U0001f101",
    "O.": "\U0001f100",
    "OE": "\u0152",
    "OO": "\ua698\ua74e",
    "P": ("\u03a1\u0420\u13e2\u146d\u2ca2\ua4d1\U00010295\U0001d6b8\U0001d6f2\U0001d72c\U0001d766\U0001d7a0"),
    "P'": "\u1486",
    "Q": "\u2d55",
    "QE": "\U0001f700",
    "R": "\u01a6\u13a1\u13d2\u1587\ua4e3\U000104b4\U00016f35\U0001d216",
    "S": "\u0405\u054f\u13d5\u13da\ua4e2\U00010296\U00010420\U00016f3a",
    "T": (
        "\u03a4\u0422\u13a2\u22a4\u27d9\u2ca6\ua4d4\U00010297\U000102b1"
        "\U00010315\U000118bc\U00016f0a\U0001d6bb\U0001d6f5\U0001d72f\U0001d769\U0001d7a3\U0001f768"
    ),
    "T3": "\ua728",
    "U": "\u054d\u1200\u144c\u222a\u22c3\ua4f4\U000104ce\U000118b8\U00016f42",
    "U'": "\u1467",
    "V": ("\u0474\u0667\u06f7\u13d9\u142f\u2d38\ua4e6\ua6df\U0001051d\U000118a0\U00016f08\U0001d20d"),
    "VB": "\U0001f76c",
    "Vl": "\u2165",
    "Vll": "\u2166",
    "Vlll": "\u2167",
    "W": "\u051c\u13b3\u13d4\ua4ea\U000118e6\U000118ef",
    "X": (
        "\u03a7\u0425\u166d\u16b7\u2573\u2cac\u2d5d\ua4eb\ua7b3"
        "\U00010290\U000102b4\U00010317\U00010322\U00010527\U000118ec\U0001d6be\U0001d6f8\U0001d732"
        "\U0001d76c\U0001d7a6"
    ),
    "Xl": "\u216a",
    "Xll": "\u216b",
    "Y": (
        "\u03a5\u03d2\u0423\u04ae\u13a9\u13bd\u2ca8\ua4ec\U000102b2"
        "\U000118a4\U00016f43\U0001d6bc\U0001d6f6\U0001d730\U0001d76a\U0001d7a4"
    ),
    "Z": ("\u0396\u13c3\ua4dc\U000102f5\U000118a9\U000118e5\U0001d6ad\U0001d6e7\U0001d721\U0001d75b\U0001d795"),
    "\\": "\u2216\u27cd\u29f5\u29f9\u2f02\u31d4\u4e36\U0001d20f\U0001d23b",
    "\\\\": "\u244a\u2cf9",
    "^": "\u02c4\u02c6",
    "_": "\u07fa",
    "a": "\u0251\u03b1\u0430\u237a\U0001d6c2\U0001d6fc\U0001d736\U0001d770\U0001d7aa",
    "aa": "\ua733",
    "ae": "\xe6\u04d5",
    "ao": "\ua735",
    "au": "\ua737",
    "av": "\ua739\ua73b",
    "ay": "\ua73d",
    "b": "\u0184\u042c\u13cf\u1472\u15af",
    "b'": "\u1488",
    "bl": "\u042b",
    "c": "\u03f2\u0441\u1d04\u2ca5\uabaf\U0001043d",
    "d": "\u0501\u13e7\u146f\ua4d2",
    "d'": "\u1487",
    "dz": "\u02a3",
    "e": "\u0435\u04bd\u212e\uab32",
    "f": "\u017f\u0584\u1e9d\ua799\uab35",
    "g": "\u018d\u0261\u0581\u1d83",
    "h": "\u04bb\u0570\u13c2",
    "i": (
        "\u0131\u0269\u026a\u02db\u037a\u03b9\u0456\u04cf\u13a5"
        "\u1fbe\u2373\ua647\uab75\U000118c3\U0001d6a4\U0001d6ca\U0001d704\U0001d73e"
        "\U0001d778\U0001d7b2"
    ),
    "j": "\u03f3\u0458",
    "l": (
        "\u0196\u01c0\u0399\u0406\u04c0\u05c0\u05d5\u05df\u0627"
        "\u0661\u06f1\u07ca\u16c1\u2110\u2111\u2160\u2223\u23fd"
        "\u2c92\u2d4f\ua4f2\ufe8d\ufe8e\uff29\uffe8\U0001028a\U00010309"
        "\U00010320\U00016f28\U0001d408\U0001d43c\U0001d470\U0001d4d8\U0001d540\U0001d574\U0001d5a8"
        "\U0001d5dc\U0001d610\U0001d644\U0001d678\U0001d6b0\U0001d6ea\U0001d724\U0001d75e\U0001d798"
        "\U0001d7cf\U0001d7d9\U0001d7e3\U0001d7ed\U0001d7f7\U0001e8c7\U0001ee00\U0001ee80\U0001fbf1"
    ),
    "l'": "\u05f1",
    "l,": "\U0001f102",
    "l.": "\u2488",
    "l2.": "\u2493",
    "l3.": "\u2494",
    "l4.": "\u2495",
    "l5.": "\u2496",
    "l6.": "\u2497",
    "l7.": "\u2498",
    "l8.": "\u2499",
    "l9.": "\u249a",
    "lJ": "\u0132",
    "lO": "\u042e",
    "lO.": "\u2491",
    "lV": "\u2163",
    "lX": "\u2168",
    "ll": "\u01c1\u05f0\u2016\u2161\u2225",
    "ll.": "\u2492",
    "lll": "\u2162",
    "ls": "\u02aa",
    "lt": "\u20b6",
    "lz": "\u02ab",
    "n": "\u0578\u057c",
    "o": (
        "\u03bf\u03c3\u043e\u0585\u05e1\u0647\u0665\u06be\u06c1"
        "\u06d5\u06f5\u0966\u0a66\u0ae6\u0be6\u0c02\u0c66\u0c82"
        "\u0ce6\u0d02\u0d20\u0d66\u0d82\u0e50\u0ed0\u101d\u1040"
        "\u10ff\u1d0f\u1d11\u2c9f\uab3d\ufba6\ufba7\ufba8\ufba9"
        "\ufbaa\ufbab\ufbac\ufbad\ufee9\ufeea\ufeeb\ufeec\U0001042c"
        "\U000104ea\U000118c8\U000118d7\U0001d6d0\U0001d6d4\U0001d70a\U0001d70e\U0001d744\U0001d748"
        "\U0001d77e\U0001d782\U0001d7b8\U0001d7bc\U0001ee24\U0001ee64\U0001ee84"
    ),
    "o'": "\u01a1",
    "oe": "\u0153",
    "oo": "\u221e\ua699\ua74f",
    "p": (
        "\u03c1\u03f1\u0440\u2374\u2ca3\U0001d6d2\U0001d6e0\U0001d70c\U0001d71a"
        "\U0001d746\U0001d754\U0001d780\U0001d78e\U0001d7ba\U0001d7c8"
    ),
    "q": "\u051b\u0563\u0566",
    "r": "\u0433\u1d26\u2c85\uab47\uab48\uab81",
    "r'": "\u0491",
    "rn": (
        "\u217f\U00011700\U000118e3\U0001d426\U0001d45a\U0001d48e\U0001d4c2\U0001d4f6\U0001d52a"
        "\U0001d55e\U0001d592\U0001d5c6\U0001d5fa\U0001d62e\U0001d662\U0001d696"
    ),
    "s": "\u01bd\u0455\ua731\uabaa\U00010448\U000118c1",
    "sss": "\U0001f75c",
    "tf": "\ua777",
    "ts": "\u02a6",
    "u": (
        "\u028b\u03c5\u057d\u1d1c\ua79f\uab4e\uab52\U000104f6\U000118d8"
        "\U0001d6d6\U0001d710\U0001d74a\U0001d784\U0001d7be"
    ),
    "ue": "\u1d6b",
    "uo": "\uab63",
    "v": (
        "\u03bd\u0475\u05d8\u1d20\u2228\u22c1\uaba9\U00011706\U000118c0"
        "\U0001d6ce\U0001d708\U0001d742\U0001d77c\U0001d7b6"
    ),
    "w": "\u026f\u0461\u051d\u0561\u1d21\uab83\U0001170a\U0001170e\U0001170f",
    "x": "\xd7\u0445\u1541\u157d\u166e\u292b\u292c\u2a2f",
    "y": (
        "\u0263\u028f\u03b3\u0443\u04af\u10e7\u1d8c\u1eff\u213d"
        "\uab5a\U000118dc\U0001d6c4\U0001d6fe\U0001d738\U0001d772\U0001d7ac"
    ),
    "z": "\u1d22\uab93\U000118c4",
    "{": "\u2774\U0001d114",
    "}": "\u2775",
    "~": "\u02dc\u1fc0\u2053\u223c",
}
"""ASCII -> characters that cannot be told from it (UTS #39)."""

VARIANTS: dict[str, str] = {
    "<": ("\xab\u227a\u22d6\u2329\u276c\u27e8\u27ea\u29fc\u3008\u300a\u304f\u31db\U00021fe8"),
    ">": ("\xbb\u227b\u22d7\u232a\u276d\u27e9\u27eb\u29fd\u3009\u300b"),
    "[": "\u2045\u23a1\u27e6\u3010\u3016\u3018\u301a",
    "]": "\u2046\u23a4\u27e7\u3011\u3017\u3019\u301b",
    "a": "\u023a\u1d00\u1d8f\u2c65\uab7a\U0001f150\U0001f170\U0001f1e6",
    "b": (
        "\u0180\u0182\u0183\u0243\u0253\u0299\u0432\u13fc\u1d03\u1d6c\u1d80\ua796\ua797\U0001f151\U0001f171\U0001f1e7"
    ),
    "c": (
        "\u0188\u023b\u023c\u0255\u03f5\u0404\u0454\u0511\u22f4"
        "\u2c88\u2c89\ua792\ua793\ua794\ua7c4\uab9b\U00010429\U000118ce"
        "\U0001d6c6\U0001d6dc\U0001d700\U0001d716\U0001d73a\U0001d750\U0001d774\U0001d78a\U0001d7ae"
        "\U0001d7c4\U0001df1d\U0001f152\U0001f172\U0001f1e8"
    ),
    "d": (
        "\u0110\u0111\u018b\u018c\u0221\u0256\u0257\u1d05\u1d6d"
        "\u1d81\u1d91\ua779\ua77a\ua7c7\ua7c8\uab70\U0001f153\U0001f173"
        "\U0001f1a5\U0001f1e9"
    ),
    "e": (
        "\u0190\u01dd\u0246\u0247\u0258\u0259\u025b\u025c\u03b5"
        "\u0437\u04d9\u0510\u13cb\u1d07\u1d92\u1d93\u20ac\u2107"
        "\u2c78\uab33\uab34\uab7c\U00010401\U00016f2d\U0001d221\U0001f154\U0001f174"
        "\U0001f1ea"
    ),
    "f": ("\u0191\u0192\u0492\u0493\u1d6e\u1d82\ua730\ua77b\ua77c\U0001f155\U0001f175\U0001f1eb"),
    "g": (
        "\u01e4\u01e5\u0260\u0262\u029b\u050d\u13fb\u1d79\ua77d"
        "\ua7a0\ua7a1\ua7ac\uab36\uab90\U0001f156\U0001f176\U0001f1ec"
    ),
    "h": ("\u0126\u0127\u0266\u029c\u043d\u2c67\u2c68\ua727\ua795\ua7aa\uab8b\U0001f157\U0001f177\U0001f1ed"),
    "i": "\u0197\u0268\u1d96\ua7ae\U0001df1a\U0001f158\U0001f178\U0001f1ee",
    "j": ("\u0237\u0248\u0249\u025f\u0284\u029d\u0575\u1d0a\uab7b\U0001d6a5\U0001f159\U0001f179\U0001f1ef"),
    "k": (
        "\u0138\u0199\u1d0b\u1d84\u2c69\u2c6a\ua740\ua741\ua742"
        "\ua743\ua744\ua745\ua7a2\ua7a3\U0001f15a\U0001f17a\U0001f1f0"
    ),
    "l": (
        "\u0141\u0142\u019a\u0234\u023d\u026b\u026c\u026d\u029f"
        "\u1d0c\u1d85\u2c60\u2c61\u2c62\u2cd1\ua748\ua749\ua78e"
        "\ua7ad\uab37\uab38\uab39\uabae\U00010443\U0001df04\U0001df11\U0001df13"
        "\U0001f15b\U0001f17b\U0001f1f1"
    ),
    "m": ("\u0271\u028d\u043c\u1d0d\u1d6f\u1d86\u2c6e\uab3a\U0001f15c\U0001f17c\U0001f1f2"),
    "n": (
        "\u0146\u019d\u019e\u0220\u0235\u0272\u0273\u0274\u1d70"
        "\u1d87\ua790\ua791\ua7a4\ua7a5\uab3b\U0001f15d\U0001f17d\U0001f1f3"
    ),
    "o": (
        "\xd8\xf8\u0186\u019f\u01fe\u01ff\u0254\u0275\u037b"
        "\u03fd\u1d10\u1d97\u2183\u2184\u2c7a\ua4db\ua74a\ua74b"
        "\ua74c\ua74d\uab3e\uab3f\U00010423\U0001044b\U0001df1b\U0001f15e\U0001f17e"
        "\U0001f1f4"
    ),
    "p": (
        "\u01a5\u1d18\u1d29\u1d71\u1d7d\u1d88\u2c63\ua750\ua751"
        "\ua752\ua753\ua754\ua755\uabb2\U0001f15f\U0001f17f\U0001f1f5"
    ),
    "q": ("\u024b\u02a0\u1d90\ua756\ua757\ua758\ua759\ua7af\U0001f160\U0001f180\U0001f1f6"),
    "r": (
        "\u024c\u024d\u027c\u027d\u027e\u0280\u1d72\u1d73\u1d89"
        "\u2c64\ua75b\ua782\ua783\ua7a6\ua7a7\uab46\uab49\uab4b"
        "\uab4c\uab71\uaba2\U0001df16\U0001f161\U0001f181\U0001f1f7"
    ),
    "s": (
        "\u01a8\u023f\u0282\u03e9\u1d24\u1d74\u1d8a\u1e9c\u2c7e"
        "\ua645\ua784\ua785\ua7a8\ua7a9\ua7c5\ua7c9\ua7ca\U0001df1e"
        "\U0001f162\U0001f182\U0001f1f8"
    ),
    "t": (
        "\u0163\u0166\u0167\u01ab\u01ad\u01ae\u021b\u0236\u023e"
        "\u0288\u03c4\u0442\u10a0\u13bf\u1d1b\u1d75\u2c66\ua786"
        "\ua787\uab72\U0001d6d5\U0001d70f\U0001d749\U0001d783\U0001d7bd\U0001df09\U0001f163"
        "\U0001f183\U0001f1f9"
    ),
    "u": "\u1d99\ua7b8\ua7b9\U0001f164\U0001f184\U0001f1fa",
    "v": "\u01b2\u2c71\u2c74\ua75e\ua75f\U0001f165\U0001f185\U0001f1fb",
    "w": "\u2c72\u2c73\U0001f166\U0001f186\U0001f1fc",
    "x": "\u1d8d\uab56\uab57\uab58\uab59\U0001f167\U0001f187\U0001f1fd",
    "y": "\u01b4\u024e\u024f\u1efe\U0001f168\U0001f188\U0001f1fe",
    "z": (
        "\u01b5\u01b6\u0224\u0225\u0240\u0290\u0291\u1d76\u1d8e\u2c6b\u2c6c\u2c7f\ua7c6\U0001f169\U0001f189\U0001f1ff"
    ),
}
"""ASCII -> forms of the same letter or bracket that can be told from it."""
