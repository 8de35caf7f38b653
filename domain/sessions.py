"""A program's own sessions: the conversations that it keeps on disk, and goes on with if its command line says so.

Rules:

* Whoever asks for a session gets that one, or a refusal: the id that a spawn is answered with is the one that the program really has.
* An id in the caller's own arguments is taken over as it stands; beside arguments that choose a session, none can be asked for.
* A program that takes the id of a new session gets one, so that its session can be resumed later.
* The words stand right behind the program's name, before everything of the caller's: an option that takes many values takes none of them.
* A program that is started again goes on with its session. One that never became ready is given the id the other way: nobody but
  the program knows whether it had begun to write that session down.

Source: spec/local-api.md section 5.3; F114; ADR-0101.
"""

from __future__ import annotations

import re

import msgspec

from relaybroker.domain.errors import InvalidRequest, Refusal

SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class SessionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the program of one command line is told its session. `{id}` stands for the id."""

    resume: tuple[str, ...]
    begin: tuple[str, ...] = ()
    """Words for a new session with this id, a UUID; () = it makes its ids itself."""
    given: tuple[str, ...] = ()
    """Words behind which the id of a session stands."""
    unnamed: tuple[str, ...] = ()
    """Words that choose a session without saying its id."""
    at: int = 0
    """How many words of the command line come before the program's options; 0 = the program cannot be seen in it."""


class Chosen(msgspec.Struct, frozen=True):
    """A command line and the session of its program."""

    argv: tuple[str, ...]
    ref: str = ""
    """Its id; "" = not known."""


def choose(argv: tuple[str, ...], options: SessionOptions | None, *, wanted: str, fresh: str) -> Chosen:
    """The command line with the session that is wanted, or a new one.

    Args:
        argv: as the caller gave it.
        options: of the program; None = it has no sessions.
        wanted: id of the session that is to be resumed; "" = none.
        fresh: 32 hex digits for a new id.

    Raises:
        InvalidRequest: `invalid_field` in `session_id`: the program has no sessions that can be resumed, is not in sight, or the arguments
            choose one.
    """
    if options is None:
        if wanted:
            raise _refused(f"'{argv[0].rpartition('/')[2][:100]}' has no sessions that can be resumed; omit session_id")
        return Chosen(argv)
    own, is_chosen = _own(argv, options)
    if wanted and is_chosen and own != wanted:
        raise _refused("the arguments choose a session already; omit session_id")
    if is_chosen:
        return Chosen(argv, own)
    if wanted and not options.at:
        raise _refused(
            "where the program's options stand cannot be seen; give them among its arguments, and omit session_id"
        )
    if wanted:
        return Chosen(_placed(argv, options, options.resume, wanted), wanted)
    if options.begin and options.at:
        ref = _uuid(fresh)
        return Chosen(_placed(argv, options, options.begin, ref), ref)
    return Chosen(argv)


def is_new(argv: tuple[str, ...], options: SessionOptions | None, ref: str) -> bool:
    """Whether the program of this command line begins the session with this id."""
    return options is not None and bool(ref) and _find(argv, _words(options.begin, ref)) is not None


def again(argv: tuple[str, ...], options: SessionOptions, ref: str, *, resume: bool) -> tuple[str, ...]:
    """The command line of a program that is started again: its session is resumed, or begun."""
    words = {True: _words(options.resume, ref), False: _words(options.begin, ref)}
    at = _find(argv, words[not resume])
    return argv if at is None else (*argv[:at], *words[resume], *argv[at + len(words[not resume]) :])


def _refused(text: str) -> InvalidRequest:
    return InvalidRequest(Refusal.INVALID, "invalid_field", text, field="session_id")


def _own(argv: tuple[str, ...], options: SessionOptions) -> tuple[str, bool]:
    """The session that the arguments name, and whether they choose one at all."""
    words = argv[options.at or 1 :]
    for number, word in enumerate(words):
        name, is_joined, value = word.partition("=")
        if word in options.given:
            value = words[number + 1] if number + 1 < len(words) else ""
        elif not (is_joined and name in options.given):
            continue
        is_forked = any(one in options.unnamed for one in words)
        return (value if SESSION.fullmatch(value) and not is_forked else ""), True
    return "", any(word in options.unnamed for word in words)


def _placed(argv: tuple[str, ...], options: SessionOptions, form: tuple[str, ...], ref: str) -> tuple[str, ...]:
    return (*argv[: options.at], *_words(form, ref), *argv[options.at :])


def _words(form: tuple[str, ...], ref: str) -> tuple[str, ...]:
    return tuple(word.replace("{id}", ref) for word in form)


def _find(argv: tuple[str, ...], words: tuple[str, ...]) -> int | None:
    starts = range(len(argv) - len(words) + 1)
    return next((at for at in starts if words and argv[at : at + len(words)] == words), None)


def _uuid(digits: str) -> str:
    """A random UUID (version 4) of 32 hex digits."""
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
