"""What comments, docstrings, texts and documents name, and whether it is there.

A *passage* is a piece of prose with its place: a comment, a docstring, a text that people read, a paragraph of a document.
`cited` finds what a passage names, `missing` says why something of it cannot be found.

| kind | for example | there means |
|---|---|---|
| id | F044, D1 to D8, W-12, RV-G2, ACK-FLOOR | a row of a table in docs/spec |
| section | node-protocol.md 4.2, local-api.md route 9 | a heading, a row of the routes, an item of the checklist |
| document | guarantees.md, spec/local-api.md | a file |
| decision | ADR-0001 | a file in ADR |
| path | domain/mailbox.py, proof.py | a file or folder; a pattern meets one |
| test | test_no_route_but_those_for_everybody_answers_without_the_key | a test of this name |
| module | relaybroker.domain.mailbox.SEEN_WINDOW | can be imported, and has it |
| command | relaybroker log export --session | a command of ours, and its options |
| flag | --json | an option of ours |
| variable | RELAYBROKER_IN_DOUBT | the program names it as a whole string: it reads or sets it |
| issue | the number of an issue | never: it says nothing to a stranger |

What belongs to other programs stands in `NOT_OURS`, each with whose it is.
"""

from __future__ import annotations

import ast
import functools
import importlib
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from relaybroker.cli.app import _HIDDEN, cli

ROOT = Path(__file__).parents[1]
PRODUCT = ("domain", "adapters", "relaybroker")
CODE = (*PRODUCT, "tests", "bench")
SPEC = ROOT / "docs" / "spec"

NOT_OURS = {
    "docs/real-agents.md": "written by make test-agents",
    "answerer.py": "a file that the reader of docs/answering.md makes",
    "click.py": "a file of somebody's project",
    "relaybroker.toml": "a file of somebody's project",
    "test_0.py": "a file of somebody's project",
    "--disable": "codex",
    "--flag": "an example",
    "--model": "claude, codex and others",
    "--settings": "claude",
    "--session-id": "claude",
    "--yes-to-all": "an example",
    "--continue": "claude",
    "--messaging-socket-path": "claude",
    "--listen": "codex",
    "--enable": "codex",
    "--no-daemon": "codex",
    "--input-format": "claude",
    "--output-format": "claude",
    "--permission-prompt-tool": "claude",
    "--replay-user-messages": "claude",
    "--resume": "claude",
    "--verbose": "claude",
    "--remote": "codex",
    "--randomly-seed": "pytest-randomly",
    "--strict": "mypy",
    "--yolo": "gemini",
    "--acp": "qwen, copilot",
    "--experimental-acp": "gemini",
    "AGENT_RELAY_TELEMETRY_DISABLED": "the reference broker",
}
"""Paths that are not in the repository, options and variables of other programs: what it is, or whose."""
NO_IDS = frozenset({"JSON-RPC", "SYSTEM-REMINDER", "YYYY-MM-DD"})


class Passage(NamedTuple):
    """A piece of prose and where it stands."""

    place: str
    text: str


class Citation(NamedTuple):
    """Something that a passage names."""

    kind: str
    name: str


# --- passages ---------------------------------------------------------------------------------------------------------------


def sources(*folders: str) -> list[Path]:
    """The Python files of these folders, without those that a symbolic link leads to again."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if path.resolve() == path)


def documents() -> list[Path]:
    """The documents of the repository."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "ADR").glob("*.md")]
    return sorted([*pages, *(ROOT / "fixtures").rglob("README.md"), *(ROOT / "tests").rglob("README.md")])


def of_code(path: Path) -> Iterator[Passage]:
    """Docstrings (also those of attributes) and comments, neighbouring lines of comment together."""
    place = str(path.relative_to(ROOT))
    last, lines, begins = -1, list[str](), True
    for kind, string, start, _, _ in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        if kind == tokenize.COMMENT and not re.match(r"#\s*(noqa|type:|pragma)", string):
            if start[0] != last + 1 and lines:
                yield Passage(f"{place}:{last}", " ".join(lines))
                lines = []
            lines.append(string.lstrip("#").split("# noqa")[0].strip())
            last = start[0]
        elif kind == tokenize.STRING and begins:
            yield Passage(f"{place}:{start[0]}", str(ast.literal_eval(string)))
        if kind not in (tokenize.COMMENT, tokenize.NL):
            begins = kind in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
    if lines:
        yield Passage(f"{place}:{last}", " ".join(lines))


def of_texts(path: Path) -> Iterator[Passage]:
    """Texts in code: strings of several words that are no docstrings. Parts of an f-string are read as one, with `…` for values."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in ast.walk(node)} - {id(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        else:
            continue
        if len(text.split()) > 2:
            yield Passage(f"{path.relative_to(ROOT)}:{node.lineno}", text)


def of_document(path: Path) -> Iterator[Passage]:
    """Paragraphs, rows and items."""
    place, start, lines = str(path.relative_to(ROOT)), 1, list[str]()
    for number, line in enumerate([*path.read_text("utf-8").splitlines(), ""], 1):
        if not line.strip() or re.match(r"\s*([|#*]|\d+\.|```)", line):
            if lines:
                yield Passage(f"{place}:{start}", "\n".join(lines))
            start, lines = number, []
        lines.append(line)


def of_comments(path: Path) -> Iterator[Passage]:
    """Comments of a file that is not Python: what stands behind `#`."""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if comment := re.search(r"(?:^|\s)#+\s.*", line):
            yield Passage(f"{path.relative_to(ROOT)}:{number}", comment[0])


def of_help() -> Iterator[Passage]:
    """What `--help` of every command says."""
    for names, command in commands().items():
        text = [command.help or "", command.epilog or "", *(getattr(one, "help", None) or "" for one in command.params)]
        yield Passage(" ".join(("relaybroker", *names, "--help")), "\n".join(text))


# --- what a passage names -----------------------------------------------------------------------------------------------------

_ID = re.compile(r"(?<![\w+&.#-])(RV-[A-Z]\d+|W-\d\d|F\d{3}|[UB]\d{2}|[INRDXWSA]\d{1,2})(?![\w.-]?\w|\+)")
_RANGE = re.compile(r"(?<![\w-])([A-Z])(\d+)(?: to |-|–)\1?(\d+)\b")
_NAMED_ID = re.compile(r"(?<![\w-])([A-Z]+[0-9]?(?:-[A-Z]{2,})+)(?![\w-])")
_SPEC_PAGES = "node-protocol|local-api|engine-contract|failure-scenarios|real-agents|architecture|feature-parity"
_PAGE = re.compile(rf"(?<![\w-])({_SPEC_PAGES})(?:\.md|(?= \d))")
_SECTION = re.compile(
    r"""(?P<separator>(?:[\s,]|and\s|to\s|-)*)
        (?:(?P<word>sections?|appendix|routes?|checklist)\s+)?
        (?P<number>\d+(?:\.\d+)*(?:\.[A-Z]\b)?|[A-Z]\b)(?!\d|[./]\w)""",
    re.VERBOSE,
)
_CHECKLIST = re.compile(r"checklist ((?:\d+(?:, | and | to )?)+)")
_HEAD = re.compile(r"\s*(?:(?:[A-Z][A-Z0-9-]*\d|[A-Z]+(?:-[A-Z]+)+|\d{1,2}\.\d{1,2})(?:[,;:.]\s*|$))+")
"""What a test's docstring begins with: ids, and sections of node-protocol.md without its name."""
_QUOTED = re.compile(r'\s*\("([^"]+)"\)')
_DOCUMENT = re.compile(r"(?<![\w./-])((?:[\w-]+/)*[A-Za-z][\w-]*\.md)\b")
_PATH = re.compile(
    r"(?<![\w./~$>@:…-])((?:domain|adapters|relaybroker|tests|fixtures|docs|ADR|bench)/(?!\d)[\w./*<>{}…-]*[\w*>}]/?)"
)
_FILE = re.compile(r"(?<![\w./*<>-])([a-z_]\w*\.(?:py|toml))\b")
_TEST = re.compile(r"(?<![\w./*-])(?<!def )(test_\w+)(?![\w*]|\.py|/)")
_MODULE = re.compile(r"(?<![\w./-])(relaybroker(?:\.(?!toml\b)\w+)+)")
_COMMAND = re.compile(r"(?<![\w./-])relaybroker ((?:[a-z][a-z-]*)(?: [^\s`;,.()]+)*)")
_FLAG = re.compile(r"(?<![\w-])(--[a-z][\w-]*)")
_VARIABLE = re.compile(r"(?<![\w])((?:RELAYBROKER|RELAYCAST|RELAY|AGENT_RELAY)_[A-Z0-9_]+\*?)")
_WHOLE = re.compile(r"""["']([A-Z][A-Z0-9]*_[A-Z0-9_]*)["']""")
_ISSUE = re.compile(r"(?i)\b(issues? (?:\d+|part \d+|\"\w+\"))")


def cited(text: str) -> Iterator[Citation]:
    """Everything in a passage that can be looked up."""
    text = re.sub(r"\s*\n\s*", " ", text)
    yield from (Citation("id", name) for name in _ID.findall(text))
    yield from (Citation("id", name) for name in _NAMED_ID.findall(text) if name not in NO_IDS)
    for letter, first, last in _RANGE.findall(text):
        if letter in "FUBINRDXWSA":
            yield from (Citation("id", f"{letter}{n:0{len(first)}}") for n in range(int(first), int(last) + 1))
    yield from _sections(text)
    for numbers in _CHECKLIST.findall(text):
        yield from (Citation("section", f"local-api.md checklist {number}") for number in re.findall(r"\d+", numbers))
    yield from (Citation("document", name) for name in _DOCUMENT.findall(text))
    yield from (Citation("decision", name) for name in re.findall(r"ADR-\d{4}", text))
    yield from (Citation("path", name) for name in (*_PATH.findall(text), *_FILE.findall(text)))
    yield from (Citation("test", name) for name in _TEST.findall(text))
    yield from (Citation("module", name) for name in _MODULE.findall(text))
    yield from (Citation("command", f"relaybroker {name}") for name in _COMMAND.findall(text))
    yield from (Citation("flag", name) for name in _FLAG.findall(text))
    yield from (Citation("variable", name) for name in _VARIABLE.findall(text))
    yield from (Citation("issue", name) for name in _ISSUE.findall(text))


def _sections(text: str) -> Iterator[Citation]:
    if head := _HEAD.match(text):
        numbers = re.findall(r"(?<![\w.])\d{1,2}\.\d{1,2}(?=[,;:.]|$)", head[0])
        yield from (Citation("section", f"node-protocol.md section {number}") for number in numbers)
    for page in _PAGE.finditer(text):
        at, word, before = page.end(), "section", ""
        if quoted := _QUOTED.match(text, at):
            yield Citation("section", f'{page[1]}.md "{quoted[1]}"')
        while match := _SECTION.match(text, at):
            word = (match["word"] or word).rstrip("s")
            number = match["number"]
            if number.isalpha() and not (match["word"] or before.isalpha()):
                break
            if "to" in match["separator"] or match["separator"] == "-":
                *_, last = number.split(".")
                head, _, first = before.rpartition(".")
                for middle in range(int(first) + 1, int(last)):
                    yield Citation("section", f"{page[1]}.md {word} {f'{head}.' if head else ''}{middle}")
            yield Citation("section", f"{page[1]}.md {word} {number}")
            at, before = match.end(), number


# --- whether it is there ------------------------------------------------------------------------------------------------------


def missing(citation: Citation, *, in_tests: bool = False) -> str:
    """Why what is cited cannot be found; "" if it can."""
    kind, name = citation
    if name in NOT_OURS:
        return ""
    match kind:
        case "id":
            resolves = name in ids()
        case "section":
            page, _, rest = name.partition(" ")
            resolves = rest in headings(page) or (rest.startswith('"') and rest.strip('"') in headings(page))
        case "document":
            resolves = _is_document(name)
        case "decision":
            resolves = any((ROOT / "ADR").glob(f"{name.removeprefix('ADR-')}-*.md"))
        case "path":
            resolves = _is_path(name)
        case "test":
            resolves = name in tests()
        case "module":
            resolves = _is_module(name)
        case "command":
            return _wrong_in_command(name.split()[1:])
        case "flag":
            resolves = name in flags()
        case "variable":
            known = variables(*CODE) if in_tests else variables(*PRODUCT)
            prefix = name.rstrip("*")
            resolves = any(one == name or (prefix.endswith("_") and one.startswith(prefix)) for one in known)
        case _:
            resolves = False
    return "" if resolves else f"{kind} {name}"


@functools.cache
def ids() -> frozenset[str]:
    """The ids that have a row: the first column of the tables of docs/spec."""
    named: set[str] = set()
    for page in ("node-protocol.md", "failure-scenarios.md", "conversation.md"):
        for row in re.findall(r"^\| ([A-Z][\w, -]*) \|", (SPEC / page).read_text("utf-8"), re.MULTILINE):
            named |= {one for one in row.split(", ") if re.fullmatch(r"[A-Z][A-Z0-9]*(-[A-Z0-9]+)*", one)}
    return frozenset(named)


@functools.cache
def headings(page: str) -> frozenset[str]:
    """What of a page of docs/spec can be cited: `section 4.2`, `appendix A`, `route 9`, `checklist 11`, titles of sections."""
    path = SPEC / page
    if not path.is_file():
        return frozenset()
    text = path.read_text("utf-8")
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    places = set(titles)
    for title in titles:
        if number := re.match(r"(\d+(?:\.\d+)*)[. ]", title):
            places.add(f"section {number[1]}")
        if letter := re.match(r"([A-H])\. ", title):
            places |= {f"section {letter[1]}", f"section 3.{letter[1]}"}
        if letter := re.match(r"Appendix ([A-Z])\.", title):
            places.add(f"appendix {letter[1]}")
    if page == "local-api.md":
        routes, _, rest = text.partition("### 1.2")[2].partition("### 1.3")
        for row in re.findall(r"^\| ([\d–, ]+) \|", routes, re.MULTILINE):
            for part in row.split(", "):
                first, _, last = part.partition("–")
                places |= {f"route {number}" for number in range(int(first), int(last or first) + 1)}
        items = rest.partition("## 10.")[2].partition("## 11.")[0]
        places |= {f"checklist {number}" for number in re.findall(r"^(\d+)\. ", items, re.MULTILINE)}
    return frozenset(places)


def _is_document(name: str) -> bool:
    folder, _, page = name.rpartition("/")
    if (ROOT / name).is_file():
        return True
    if folder in ("", "spec", "design"):
        return (SPEC / page).is_file() or (not folder and page in _files())
    return (ROOT / "docs" / name).is_file() or (ROOT / "tests" / name).is_file()


def _is_path(name: str) -> bool:
    if "/" not in name:
        return name in _files()
    pattern = re.sub(r"<[^>]*>|\{[^}]*\}|…", "*", name).rstrip("/")
    return any(any((ROOT / folder).glob(pattern)) for folder in (".", "relaybroker") if "**" not in pattern)


@functools.cache
def _files() -> frozenset[str]:
    folders = (*CODE, "fixtures", "ADR", "docs")
    names = {path.name for folder in folders for path in (ROOT / folder).rglob("*.*")}
    return frozenset(names | {path.name for path in ROOT.glob("*.*")})


@functools.cache
def tests() -> frozenset[str]:
    """The names of all tests."""
    names_by_file = (
        re.findall(r"^(?: {4})?(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
        for path in sources("tests")
    )
    return frozenset(name for names in names_by_file for name in names)


@functools.cache
def _is_module(name: str) -> bool:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            named = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(named, part):
                return part in getattr(named, "__annotations__", {}) or part in getattr(named, "__struct_fields__", ())
            named = getattr(named, part)
        return True
    return False


@functools.cache
def commands() -> dict[tuple[str, ...], click.Command]:
    """Every command by its words; `()` is the program itself."""
    by_words: dict[tuple[str, ...], click.Command] = {}

    def walk(command: click.Command, names: tuple[str, ...]) -> None:
        by_words[names] = command
        if isinstance(command, click.Group):
            with click.Context(command) as context:
                for name in (*command.list_commands(context), *(_HIDDEN if not names else ())):
                    below = command.get_command(context, name)
                    assert below is not None
                    walk(below, (*names, name))

    walk(cli, ())
    return by_words


@functools.cache
def flags() -> frozenset[str]:
    """Every option of ours: of the commands, and of the modules that are run by `python -m`."""
    options = {
        name for command in commands().values() for one in command.params for name in one.opts + one.secondary_opts
    }
    for path in sources(*CODE):
        source = path.read_text("utf-8")
        for words in re.findall(r"\badd_?(?:argument|option)\(([^)]*)", source):
            options |= set(re.findall(r'"(--[a-z][\w-]*)"', words))
        options |= set(re.findall(r'(?:==|\bin) [\[(]?"(--[a-z][\w-]*)"', source))
    return frozenset({"--help", *options})


@functools.cache
def variables(*folders: str) -> frozenset[str]:
    """Environment variables (and beginnings of such) that code names as a whole string."""
    return frozenset(name for path in sources(*folders) for name in _WHOLE.findall(path.read_text("utf-8")))


def _wrong_in_command(words: list[str]) -> str:
    """What is wrong with a command line of ours, as far as its words can be told from values."""
    names: tuple[str, ...] = ()
    while words and (*names, words[0]) in commands():
        names, words = (*names, words[0]), words[1:]
    command = commands()[names]
    if isinstance(command, click.Group) and words and re.fullmatch(r"[a-z][a-z-]*", words[0]) and names:
        return f"command relaybroker {' '.join((*names, words[0]))}"
    own = {name for one in command.params for name in one.opts + one.secondary_opts} | {"--help", "-h"}
    for word in words:
        if word == "--":
            break
        if word.startswith("--") and word.split("=")[0] not in own:
            return f"option {word} of relaybroker {' '.join(names)}"
    return ""
