"""Open files of a process: how many it may have, and whether there is room for what is about to be opened.

A process of ours raises its soft limit as far as it may, once, at its start. Programs that it starts for others get the limit back
that we were started with: a program that uses `select` breaks on numbers above 1023.
Source: superset-sh/superset PR 5067 (agents do not start at a soft limit of 256).
"""

from __future__ import annotations

import os
import resource

WANTED = 65_536
"""What the soft limit is raised to, if the hard one allows it: more than 256 sessions and 1,000 clients can use."""


class DescriptorsUsedUp(Exception):  # noqa: N818  # says what the state is
    """There is no room for what is to be opened; the text names the limit and how to raise it."""


class _Start:
    """The soft limit that this process was started with; set by the first `raise_limit`."""

    limit: int | None = None


def raise_limit(started_with: int | None = None) -> int:
    """Raise the soft limit of open files towards the hard one where that is allowed; the limit that now holds.

    Args:
        started_with: the limit for programs of other people, when our parent has raised its own already.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _Start.limit is None:
        _Start.limit = soft if started_with is None else started_with
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # a sandbox that forbids it: what we have has to do
            return soft
        return wanted
    return soft


def started_with() -> int:
    """The soft limit that this process was started with: what programs of other people get."""
    return _Start.limit if _Start.limit is not None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def give_limit(soft: int) -> None:
    """Set this process's soft limit, for the program that it becomes. For a child between fork and exec."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def check_room(count: int) -> None:
    """Make sure that `count` more files can be opened now.

    Raises:
        DescriptorsUsedUp: they cannot, because of this process's limit or the machine's.
    """
    opened: list[int] = []
    try:
        for _ in range(count):
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401  # what was opened must be closed
    except OSError as error:
        raise DescriptorsUsedUp(refusal(error)) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def refusal(error: OSError) -> str:
    """What is missing and what to do, for a person."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"no file descriptors are left ({os.strerror(error.errno or 0)}): this process may have {soft} open files, {hard} at most;"
        " release agents, or start the broker with a higher limit (ulimit -n)"
    )
