"""Who may have a program run without asking for permission: by a field of the spawn, or by the program's own flag.

Rules, by the operator's `permission_mode`:

* `never`: nobody.
* `explicit` (the default): a local caller that asks for it.
* `local`: as that, and local callers that do not say get it.
* `all`: remote callers too, if they ask for it.

A flag in what the operator offers for placement is the operator's own, and is refused by `never` alone. Flags in files and variables of the
program are not seen.

Source: spec/local-api.md section 11.2.
"""

from __future__ import annotations

import msgspec

from relaybroker.domain.errors import InvalidRequest, Refusal

NEVER, EXPLICIT, LOCAL, ALL = "never", "explicit", "local", "all"
ASK, BYPASS = "ask", "bypass"


class BypassOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the program of one command line is told to ask for nothing."""

    add: tuple[str, ...]
    given: tuple[str, ...] = ()
    """Further words that say so, or something as far."""
    at: int = 0
    """How many words of the command line come before the program's options; 0 = the program cannot be seen in it."""


def permitted(
    argv: tuple[str, ...], options: BypassOptions | None, *, wanted: str, mode: str, is_remote: bool, offered: int = 0
) -> tuple[str, ...]:
    """The command line with or without the words that bypass permissions.

    Args:
        argv: as the caller gave it.
        options: of the program; None = it has no such words.
        wanted: `ask`, `bypass`, or "": the caller does not say.
        mode: the operator's.
        is_remote: whether the caller is on another machine.
        offered: how many words of the command line the operator has offered himself.

    Raises:
        InvalidRequest: `bypass_not_allowed`; `invalid_field` in `permission_mode`, the program has no such mode or is not in sight.
    """
    says = is_bypassed(argv, options)
    if wanted == ASK and says:
        raise _invalid("the arguments bypass permissions; omit permission_mode 'ask'")
    is_asked_for = wanted == BYPASS or is_bypassed(argv, options, behind=offered)
    if (mode == NEVER and (is_asked_for or says)) or (is_remote and is_asked_for and mode != ALL):
        text = f"nobody here may have a program bypass its permissions (permission_mode = {mode})"
        if mode != NEVER:
            text = f"remote callers may not have a program bypass its permissions (permission_mode = {mode})"
        raise InvalidRequest(Refusal.FORBIDDEN, "bypass_not_allowed", text, field="permission_mode")
    by_default = mode == LOCAL and not is_remote and not wanted and options is not None and options.at > 0
    if says or not (wanted == BYPASS or by_default):
        return argv
    if options is None:
        raise _invalid(f"'{argv[0].rpartition('/')[2][:100]}' has no mode that bypasses permissions")
    if not options.at:
        raise _invalid("where the program's options stand cannot be seen; give its own flag among its arguments")
    return (*argv[: options.at], *options.add, *argv[options.at :])


def is_bypassed(argv: tuple[str, ...], options: BypassOptions | None, *, behind: int = 0) -> bool:
    """Whether the program of this command line asks for nothing, by words `behind` so many."""
    if options is None:
        return False
    return any(word in options.add or word in options.given for word in argv[max(1, options.at, behind) :])


def _invalid(text: str) -> InvalidRequest:
    return InvalidRequest(Refusal.INVALID, "invalid_field", text, field="permission_mode")
