"""Profiles of the programs that agents run in: how each shows that it is ready or blocked, and how it takes text.

A new program is a new file here, with its screens in `fixtures/terminals/<name>/`; no code changes. The broker chooses one from the
command line (`profile_for`); before each injection the host looks again, at the program that has the terminal (`of_program`).
The operator's own profiles (`use`) come before these, and take the place of those of the same name.
Source: node-protocol.md 6.4, 6.8; local-api.md 3.1, 3.3; real-agents.md; ADR-0040, ADR-0041, ADR-0080.
"""

from __future__ import annotations

import functools
import json
import re
from fnmatch import fnmatchcase
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from relaybroker.adapters.sessions.terminal.composer import ComposerRule
from relaybroker.adapters.sessions.terminal.view import bare
from relaybroker.domain.doors import fault_of_doors
from relaybroker.domain.names import nearest_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DEFAULT = "default"
_APPLETS = ("busybox", "toybox")
_WRAPPERS = {
    "env": ("-u", "-C", "-S"),
    "nice": ("-n",),
    "ionice": ("-c", "-n"),
    "nohup": (),
    "setsid": (),
    "stdbuf": ("-i", "-o", "-e"),
    "timeout": ("-k", "-s"),
    "npx": ("-p", "--package"),
    "bunx": (),
    "time": (),
    "command": (),
    "exec": (),
    "mise": (),
}
"""Commands that run another one: name -> options that take a value."""
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_DURATION = re.compile(r"\d+(\.\d+)?[smhd]?")
MAX_OWN = 64
"""Profiles of the operator's own."""
MAX_OWN_BYTES = 64 * 1024
"""Of one of them. All of them fit into one message to the host."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PLACE = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(.*)`")
_VERSIONED = re.compile(r"(?<=[a-z])@[\w.^~-]+$")


Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=60_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]


class HarnessError(Exception):
    """A profile cannot be used; the text names the file, the key and what is wrong with it."""


class Dialog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The name of a question or login, for the screens that show no composer. It names what was found and finds nothing by itself."""

    name: str
    all_of: tuple[str, ...]
    """Texts that must all be there, any case, however they wrap."""
    any_of: tuple[str, ...] = ()
    """Of these, when there are any, at least one."""


class Sign(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of the program's own beside its composer, in a place where its prose never stands."""

    place: Literal["above", "below", "cursor"]
    """Rows above the composer, below it, or the row of the cursor and the one above."""
    pattern: str
    """Regular expression, matched from the beginning of the row."""
    within: int = 4
    """So many rows that are not blank."""
    name: str = ""
    """Of an obstacle."""


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one sees from the arguments of an interpreter that it runs a program instead of showing its prompt."""

    valued_options: tuple[str, ...] = ()
    """Options whose value is the next argument."""
    options: tuple[str, ...] = ()
    """Options that name something to run."""
    cluster: str = ""
    """A letter that does so in a group of one-letter options (`-lc`)."""
    console_modules: tuple[str, ...] = ()
    """What `-m` runs that is a prompt again."""
    console_options: tuple[str, ...] = ("-i",)
    """Options after which it shows its prompt all the same; shell patterns."""
    console_cluster: str = ""
    """A regular expression for groups of one-letter options that have such an option among them."""


class Alone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a program is kept from sharing a daemon with others of its kind, and with it the identity of whoever started that."""

    option: str = ""
    """Given to the program if its `--help` names it."""
    unless: tuple[str, ...] = ()
    """Arguments by which somebody asks for another's server: with one of these the option is not given."""
    files: dict[str, str] = {}
    """Variables that name the file by which programs of the kind find each other, and what it is called; each agent gets its own."""


class Mcp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the program is given the agent's tools, beside the MCP servers of its user. No option holds a token: each names its variable."""

    tool: str
    """What its model calls a tool; `{tool}` stands for our name of it."""
    args: tuple[str, ...] = ()
    """Options behind the program's name; `{url}` stands for the address of the local API."""
    env: dict[str, str] = {}
    """Variables that hold JSON; what they hold already stays in them, beside ours."""
    command_args: tuple[str, ...] = ()
    """As `args`, where the operator names another server: `{command}` is its program, `{args}` its arguments, `{words}` both, as JSON."""
    command_env: dict[str, str] = {}
    """As `env`, likewise."""
    approve: tuple[str, ...] = ()
    """Options that let the model use these tools, and no others, without asking; given only where the operator says so."""

    def __post_init__(self) -> None:
        if "{tool}" not in self.tool or not (self.args or self.env):
            raise ValueError("tool must hold {tool}, and args or env say how the program gets it")
        if bool(self.args) != bool(self.command_args) or self.env.keys() != self.command_env.keys():
            raise ValueError("command_args and command_env say the same for another server as args and env for ours")
        for value in (*self.env.values(), *map(_with_a_server, self.command_env.values())):
            if not isinstance(json.loads(value), dict):
                raise ValueError("what env and command_env hold is a JSON object")  # noqa: TRY004 - msgspec places it


class Sessions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the program is told which of its own sessions it has. The words stand behind its name; `{id}` stands for the id."""

    resume: tuple[str, ...]
    """Go on with this session."""
    begin: tuple[str, ...] = ()
    """Begin one with this id, a UUID. Without it the program makes its ids itself, and nobody is told them."""
    given: tuple[str, ...] = ()
    """Words of a caller's own behind which the id of a session stands."""
    unnamed: tuple[str, ...] = ()
    """Words of a caller's own that choose a session without saying its id."""

    def __post_init__(self) -> None:
        for name, words in (("resume", self.resume), ("begin", self.begin)):
            if words and not any("{id}" in word for word in words):
                raise ValueError(f"{name} must hold {{id}}")
        if not self.resume:
            raise ValueError("resume says how a session is gone on with")


class Bypass(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the program is told to ask for no permission. Given only where a caller and the operator want it."""

    add: tuple[str, ...]
    """The words, behind its name."""
    given: tuple[str, ...] = ()
    """Further words of a caller's own that say so, or something as far."""

    def __post_init__(self) -> None:
        if not self.add:
            raise ValueError("add says which words bypass permissions")


class ByHand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person writes once into the program's own configuration, for a program that takes MCP servers from there only.

    It is good for every agent, since it names variables and no agent.
    """

    file: str
    """Where; `~` is the person's home."""
    entry: str
    """What, to be merged into the file."""
    seen: str = "documented, not tried"
    """How it is known to work."""


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of program. Times are in milliseconds unless the name says otherwise."""

    name: str
    commands: tuple[str, ...] = ()
    """Shell patterns for the lower-case file name of the command."""
    treatment: Literal["type", "show", "hold"] = "type"
    """`show`: a message is shown on the terminal by the host, and the program gets nothing: it would run it. `hold`: the program's keys are
    commands; messages wait until it has ended."""
    script: Script | None = None
    """The profile is for the program's own prompt, so not when the arguments say that it runs a program."""
    composer: tuple[ComposerRule, ...] = ()
    """Where it takes text, the first that is found. With such rules nothing is typed but into an empty composer."""
    plain_program: bool = False
    """Ready when it waits for its keyboard and shows no question; `unverified` when that cannot be seen."""
    dialogs: tuple[Dialog, ...] = ()
    busy: tuple[Sign, ...] = ()
    """It works."""
    obstacles: tuple[Sign, ...] = ()
    """It has an empty composer and can do nothing with a message: nobody is logged in."""
    busy_patience_s: Seconds = 300.0
    """A message that has waited so long is typed all the same: the program keeps what it is typed while it works."""
    completes: bool = False
    """A completion opens on a last word such as `@file`; a space behind it closes it again before Enter."""
    tabs: Literal["keep", "spaces"] = "spaces"
    """Outside a paste, for a program that takes single keys: a TAB of the text becomes spaces, since it would be a key."""
    multi_line: Literal["lines", "join"] = "lines"
    """Without bracketed paste: line feeds are typed as they are, or become spaces so that one Enter submits once."""
    echo_wait_ms: Milliseconds = 300
    """Longest wait between text and Enter for a program that shows what it is typed."""
    silent_wait_ms: Milliseconds = 50
    """The same for a program that showed nothing so far."""
    settle_ms: Milliseconds = 0
    """Silence between the text and Enter, for programs that take a quick Enter for a part of a paste."""
    gap_ms: Milliseconds = 0
    """Least time between two messages."""
    verify_s: Seconds = 5.0
    """How long the marker is looked for after Enter."""
    stop_signals: tuple[Literal["TERM", "HUP"], ...] = ("TERM",)
    """What ends the program in order; interactive shells ignore TERM."""
    coalesce: bool = False
    """Messages that wait together go in as one paste with one Enter, if the program takes pastes."""
    answers_attributes: bool = True
    """Its question for the terminal's attributes (DA) is answered. A program that waits only briefly takes a late answer for keys."""
    model_command: str = ""
    """What switches the model of the running program, `{model}` for its name; "" = it has no such command."""
    steer_keys: bool = False
    """An injection with `steer` interrupts the program with Escape first, if it works."""
    hint: Literal["none", "line", "block"] = "none"
    """Which help on answering the broker's composer adds."""
    doors: tuple[str, ...] = ()
    """By which deliveries enter the program, the first that opens; the terminal is behind them."""
    surface: tuple[Literal["reaction", "receipt"], ...] = ()
    """What others do with its agent's messages, and is told to it in one line each: reactions, read marks."""
    alone: Alone = Alone()
    session: Sessions | None = None
    """None: it keeps no sessions that can be resumed by their id."""
    bypass: Bypass | None = None
    """None: it has no mode that asks for no permission."""
    mcp: Mcp | None = None
    """None: it gets no tools, and `no_mcp` says why; the hint names the command."""
    no_mcp: str = ""
    by_hand: ByHand | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("name takes lower-case letters, digits and . _ -, at most 64")
        if any(pattern != pattern.lower() or not pattern.strip("*?") for pattern in self.commands):
            raise ValueError(
                "commands are lower-case and name something: programs are compared by their lower-case names"
            )
        if fault := fault_of_doors(self.doors):
            raise ValueError(f"doors: {fault}")

    def dialog_in(self, joined: str) -> str | None:
        """The name of the dialog whose phrases are in a screen (as `View.joined`)."""
        return next((name for name, all_of, any_of in _phrases(self.dialogs) if _has(joined, all_of, any_of)), None)


def profile(name: str) -> Profile:
    """The profile called `name`. Raises KeyError when there is none."""
    return profiles()[name]


def names() -> tuple[str, ...]:
    """Every profile's name."""
    return tuple(profiles())


def words_of_program(profile: Profile, argv: Sequence[str]) -> tuple[str, ...] | None:
    """The words of a command line up to the program of this profile, behind which its options stand; None if it is not to be seen."""
    for at, word in enumerate(argv):
        name = word.rpartition("/")[2].lower()
        if " " not in word and any(fnmatchcase(name, pattern) for pattern in profile.commands):
            return tuple(argv[: at + 1])
    return None


def own_files() -> dict[str, str]:
    """Variables that name a file by which programs find each other, of every profile: a shell may run any of them."""
    return {variable: name for one in profiles().values() for variable, name in one.alone.files.items()}


def profile_for(argv: Sequence[str]) -> Profile:
    """The profile for a command line, through the wrappers that one usually puts before it; `default` when no other is meant for it."""
    words = list(argv)
    for _ in range(len(words)):
        if not words or (chosen := of_program(words)).name != DEFAULT or (inner := _unwrapped(words)) is None:
            break
        words = inner
    return chosen if words else profiles()[DEFAULT]


def of_program(argv: Sequence[str], executable: str = "") -> Profile:
    """The profile for a running program: by its executable, the name that it was called by, or the script that an interpreter runs."""
    return _of_program(tuple(argv), executable)


@functools.lru_cache(maxsize=512)
def _of_program(argv: tuple[str, ...], executable: str) -> Profile:
    for name, arguments in _names(argv, executable):
        for candidate in profiles().values():
            if any(fnmatchcase(name, pattern) for pattern in candidate.commands):
                if candidate.script is None or not _runs_script(candidate.script, arguments):
                    return candidate
                if (script := _script_of(candidate.script, arguments)) is not None:
                    return of_program([script]) if script != argv[0] else profiles()[DEFAULT]
                return profiles()[DEFAULT]
    return profiles()[DEFAULT]


def _names(argv: Sequence[str], executable: str) -> list[tuple[str, Sequence[str]]]:
    if not argv:
        return [(_name(executable), ())] if executable else []
    called, arguments = _name(argv[0]), argv[1:]
    if called in _APPLETS and arguments:
        called, arguments = _name(arguments[0]), arguments[1:]
    names = [(called, arguments)]
    if executable and _name(executable) not in (called, *_APPLETS):
        names.append((_name(executable), arguments))
    return names


def _name(path: str) -> str:
    name = path.rsplit("/", 1)[-1].lower().lstrip("-")
    return _VERSIONED.sub("", name).removesuffix(".js").removesuffix(".mjs").removesuffix(".exe")


def _runs_script(script: Script, arguments: Sequence[str]) -> bool:
    if any(fnmatchcase(word, pattern) for word in arguments for pattern in script.console_options):
        return False
    if script.console_cluster and any(re.fullmatch(script.console_cluster, word) for word in arguments):
        return False
    words = iter(arguments)
    for word in words:
        if word in script.valued_options:
            next(words, None)
        elif word == "-m" and word in script.options:
            return next(words, "") not in script.console_modules
        elif (
            word in script.options
            or (script.cluster and re.fullmatch(rf"-[a-zA-Z]*{script.cluster}[a-zA-Z]*", word))
            or not word.startswith(("-", "+"))
        ):
            return True
    return False


def _script_of(script: Script, arguments: Sequence[str]) -> str | None:
    """The file that the interpreter runs."""
    words = iter(arguments)
    for word in words:
        if word in script.valued_options:
            next(words, None)
        elif word in script.options or (script.cluster and word.startswith("-") and script.cluster in word):
            return next(words, None) if word == "-m" else None
        elif not word.startswith(("-", "+")):
            return word
    return None


def _unwrapped(words: list[str]) -> list[str] | None:
    """The command that a wrapper runs; None when it is none."""
    valued = _WRAPPERS.get(_name(words[0]))
    if valued is None:
        return None
    rest = iter(words[1:])
    for word in rest:
        if word in valued:
            next(rest, None)
        elif not (
            word.startswith("-")
            or _ASSIGNMENT.match(word)
            or (words[0].endswith("timeout") and _DURATION.fullmatch(word))
        ):
            return [word, *rest]
    return None


def _has(joined: str, all_of: Sequence[str], any_of: Sequence[str]) -> bool:
    return all(part in joined for part in all_of) and (not any_of or any(part in joined for part in any_of))


@functools.cache
def _phrases(dialogs: tuple[Dialog, ...]) -> tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]:
    return tuple((one.name, tuple(map(bare, one.all_of)), tuple(map(bare, one.any_of))) for one in dialogs)


class _Own:
    """The operator's profiles, as this process knows them."""

    profiles: Mapping[str, Profile] = {}


def profiles() -> dict[str, Profile]:
    """All of them, by name, in the order in which a program is compared with them: the operator's, then those that are built in."""
    return _all()


def use(own: Mapping[str, Profile]) -> None:
    """Have this process know these profiles of the operator, by name, and no others of his."""
    _Own.profiles = dict(own)
    _all.cache_clear()
    _of_program.cache_clear()


@functools.cache
def _all() -> dict[str, Profile]:
    return dict(_Own.profiles) | {name: one for name, one in _built_in().items() if name not in _Own.profiles}


@functools.cache
def _built_in() -> dict[str, Profile]:
    files = sorted(
        (file for file in resources.files(__name__).iterdir() if file.name.endswith(".toml")),
        key=lambda file: file.name,
    )
    return read({file.name: file.read_text(encoding="utf-8") for file in files})


def read(files: Mapping[str, str]) -> dict[str, Profile]:
    """The profiles in these files (name -> TOML), by their names.

    Raises:
        HarnessError: one of them is none, or two have one name.
    """
    profiles_by_name: dict[str, Profile] = {}
    places: dict[str, str] = {}
    for file, text in files.items():
        one = _read(file, text)
        if one.name in profiles_by_name:
            raise HarnessError(f"{file}: name: {places[one.name]} is called {one.name!r}, too")
        profiles_by_name[one.name], places[one.name] = one, file
    return profiles_by_name


def _read(file: str, text: str) -> Profile:
    try:
        one = msgspec.toml.decode(text, type=Profile)
    except msgspec.ValidationError as error:
        raise HarnessError(f"{file}: {_said(str(error))}") from error
    except msgspec.DecodeError as error:
        raise HarnessError(f"{file} is no TOML: {error}") from error
    for key, pattern in _patterns(one):
        try:
            re.compile(pattern)
        except re.error as error:
            raise HarnessError(f"{file}: {key}: no regular expression: {error}") from error
    return one


def _said(text: str) -> str:
    """What msgspec says, the key first."""
    placed = _PLACE.fullmatch(text)
    said, key = placed.groups() if placed else (text, "")
    if field := _FIELD.fullmatch(said):
        key = f"{key}.{field[1]}".removeprefix(".")
        return f"{key}: is missing" if "missing" in said else f"{key}: is no key of a profile{_did_you_mean(field[1])}"
    return f"{key}: {said}" if key else said


def _did_you_mean(key: str) -> str:
    known = {
        field
        for kind in (Profile, Dialog, Sign, Script, Alone, Sessions, Bypass, Mcp, ByHand, ComposerRule)
        for field in kind.__struct_fields__
    }
    near = nearest_names(key, known)
    return f"; nearest: {', '.join(near)}" if near else ""


def _with_a_server(option: str) -> str:
    """An option as it is where the operator names another server."""
    return option.replace("{command}", '""').replace("{args}", "[]").replace("{words}", "[]")


def _patterns(of: Profile) -> Iterator[tuple[str, str]]:
    """Every regular expression of a profile, by its key."""
    tables: dict[str, tuple[tuple[Any, ...], tuple[str, ...]]] = {
        "composer": (of.composer, ("prompt", "rest", "above", "foot", "below")),
        "busy": (of.busy, ("pattern",)),
        "obstacles": (of.obstacles, ("pattern",)),
    }
    for table, (rows, keys) in tables.items():
        for number, row in enumerate(rows):
            yield from ((f"{table}[{number}].{key}", getattr(row, key)) for key in keys)
    if of.script is not None:
        yield "script.console_cluster", of.script.console_cluster
