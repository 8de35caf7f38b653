"""The task that posts what waits for subscriptions: a few at a time, one of each subscription, each to an address that was checked.

The request is written by hand over a stream, so that it goes to exactly the address that was checked and follows nothing. Whatever is
not an answer of 200 to 299 within `ANSWER_S` is a failure. Nothing of an answer is read but its first line.

Source: spec/engine-contract.md section 2.13.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
import sqlite3
import ssl
import time

from relaybroker.engine import addresses, subscriptions
from relaybroker.engine.context import Engine
from relaybroker.engine.errors import EngineError

AT_ONCE = 8
"""Posts on their way."""
ANSWER_S = 10.0
"""How long a receiver has, from the look-up of its name to its answer."""
LINE_MAX = 4096
"""Bytes of the first line of an answer."""
DATABASE_S = 15.0
"""A database that cannot be written is tried again after so long, and nothing is posted meanwhile."""
log = logging.getLogger(__name__)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r\n]")


class _NotTakenError(Exception):
    """It was not taken; the message says why."""


async def run(engine: Engine) -> None:
    """Post until cancelled. What was on its way then is posted again at the next start."""
    under_way: dict[str, asyncio.Task[None]] = {}
    try:
        while True:
            engine.posts_wait.clear()
            ready, pause = await _due(engine, AT_ONCE - len(under_way), set(under_way))
            for post in ready:
                task = asyncio.create_task(_carry_out(engine, post))
                under_way[post.subscription_id] = task
                task.add_done_callback(lambda _task, key=post.subscription_id: _done(engine, under_way, key))  # type: ignore[misc]
            try:
                async with asyncio.timeout(pause):
                    await engine.posts_wait.wait()
            except TimeoutError:
                continue
    finally:
        for task in under_way.values():
            task.cancel()
        await asyncio.gather(*under_way.values(), return_exceptions=True)


async def _due(engine: Engine, room: int, but: set[str]) -> tuple[list[subscriptions.Post], float | None]:
    try:
        return await engine.store.run(lambda tx: subscriptions.due(tx, room, but))
    except sqlite3.Error:
        log.exception("the posts of subscriptions cannot be read")
        return [], DATABASE_S


def _done(engine: Engine, under_way: dict[str, asyncio.Task[None]], subscription_id: str) -> None:
    del under_way[subscription_id]
    engine.posts_wait.set()


async def _carry_out(engine: Engine, post: subscriptions.Post) -> None:
    """Post it and store what became of it. Where that cannot be stored the subscription waits: else it would be posted without end."""
    try:
        await _post(engine, post)
    except sqlite3.Error:
        log.exception("what became of a post cannot be stored")
        await asyncio.sleep(DATABASE_S)


async def _post(engine: Engine, post: subscriptions.Post) -> None:
    try:
        await _send(engine, post)
    except _NotTakenError as failure:
        reason = str(failure)[: subscriptions.ERROR_MAX]
        await engine.store.run(lambda tx: subscriptions.failed(tx, post, reason))
    else:
        await engine.store.run(lambda tx: subscriptions.arrived(tx, post))


async def _send(engine: Engine, post: subscriptions.Post) -> None:
    try:
        target = addresses.target_of(post.url)
        async with asyncio.timeout(ANSWER_S):
            status = await _exchange(engine, post, target)
    except EngineError as error:
        raise _NotTakenError(error.message) from error
    except TimeoutError as error:
        raise _NotTakenError(f"no answer within {ANSWER_S:.0f} s") from error
    except (OSError, ValueError, EOFError, asyncio.LimitOverrunError) as error:
        raise _NotTakenError(f"{type(error).__name__}: {error}") from error
    if not 200 <= status < 300:
        raise _NotTakenError(f"answered {status}")


async def _exchange(engine: Engine, post: subscriptions.Post, target: addresses.Target) -> int:
    address = await _checked_address(engine, target)
    trust = await asyncio.to_thread(ssl.create_default_context) if target.is_secure else None
    reader, writer = await asyncio.open_connection(
        address, target.port, ssl=trust, server_hostname=target.host if trust else None, limit=LINE_MAX
    )
    try:
        writer.write(_request(post, target))
        await writer.drain()
        match = _STATUS.match(await reader.readuntil(b"\n"))
        if match is None:
            raise _NotTakenError("answered something that is not HTTP")
        return int(match[1])
    finally:
        writer.transport.abort()


async def _checked_address(engine: Engine, target: addresses.Target) -> str:
    """The first address of the host, if all of them are allowed."""
    entries = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    hosts = [str(entry[4][0]) for entry in entries]
    for text in hosts:
        if not addresses.is_allowed(ipaddress.ip_address(text.partition("%")[0]), target, engine.networks):
            raise _NotTakenError(f"{text} is not public, or not reached by https (see {addresses.NETWORKS})")
    if not hosts:
        raise _NotTakenError("the host has no address")
    return hosts[0]


def _request(post: subscriptions.Post, target: addresses.Target) -> bytes:
    body = post.body.encode()
    headers = (
        {"user-agent": "relaybroker-engine"}
        | {name.lower(): value for name, value in post.headers.items()}
        | {
            "host": target.authority,
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
        }
        | subscriptions.signed_headers(post, int(time.time()))
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {target.path} HTTP/1.1\r\n{lines}\r\n".encode() + body
