"""Files and their contents.

Source: spec/engine-contract.md section 2.12.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from aiohttp import web

from relaybroker.engine import files
from relaybroker.engine.auth import Caller
from relaybroker.engine.errors import EngineError
from relaybroker.engine.models import BODY_WAIT_S, UploadBody, read_body
from relaybroker.engine.rest.api import CONNECTIONS, as_caller, base_of, engine_of, limit_of, ok
from relaybroker.engine.store import Tx

routes = web.RouteTableDef()


@routes.post("/v1/files/upload")
async def _announce(request: web.Request) -> web.Response:
    engine, base = engine_of(request), base_of(request)
    given = (await read_body(request, UploadBody)).model_dump()
    return ok(await as_caller(request, lambda tx, caller: files.announce(tx, engine, caller, given, base)), 201)


@routes.post("/v1/files/{id}/complete")
async def _finish(request: web.Request) -> web.Response:
    engine, base, file_id = engine_of(request), base_of(request), request.match_info["id"]
    return ok(
        await as_caller(request, lambda tx, caller: files.finish(tx, engine, files.owned(tx, caller, file_id), base))
    )


@routes.get("/v1/files")
async def _list(request: web.Request) -> web.Response:
    base, limit = base_of(request), limit_of(request, 50, 200)
    by = request.query.get("uploaded_by") or request.query.get("uploadedBy", "")
    return ok(await as_caller(request, lambda tx, caller: files.listing(tx, caller, by, limit, base)))


@routes.get("/v1/files/{id}")
async def _show(request: web.Request) -> web.Response:
    base, file_id = base_of(request), request.match_info["id"]

    def work(tx: Tx, caller: Caller) -> dict[str, Any]:
        return files.view(tx, files.readable(tx, caller, file_id), base)

    return ok(await as_caller(request, work))


@routes.delete("/v1/files/{id}")
async def _delete(request: web.Request) -> web.Response:
    file_id = request.match_info["id"]
    await as_caller(request, lambda tx, caller: files.delete(tx, files.owned(tx, caller, file_id)))
    return web.Response(status=204)


@routes.put("/v1/files/{id}/content")
async def _receive(request: web.Request) -> web.Response:
    store, file_id, ticket = engine_of(request).store, request.match_info["id"], request.query.get("ticket", "")
    upload = await store.run(lambda tx: files.begin(tx, file_id, ticket))
    request.app[CONNECTIONS].vouch(request)
    if request.content_length is not None and request.content_length > upload.size:
        raise EngineError(413, "file_too_large", f"The file was announced with {upload.size} bytes")
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            await _store_parts(request, upload)
    except TimeoutError as error:
        raise EngineError(408, "request_timeout", f"The content did not arrive within {BODY_WAIT_S:.0f} s") from error
    await store.run(lambda tx: files.end(tx, upload))
    return ok({"id": file_id, "size_bytes": upload.size})


async def _store_parts(request: web.Request, upload: files.Upload) -> None:
    """One part is in memory at a time: the next is read when it is on the disk."""
    number, ends = 0, False
    while not ends:
        try:
            content = await request.content.readexactly(files.PART)
        except asyncio.IncompleteReadError as error:
            content, ends = error.partial, True
        if content:
            await engine_of(request).store.run(
                lambda tx, number=number, content=content: files.add(tx, upload, number, content)  # type: ignore[misc]
            )
        number += 1


@routes.get("/v1/files/{id}/content", allow_head=False)
async def _send(request: web.Request) -> web.StreamResponse:
    store, file_id, ticket = engine_of(request).store, request.match_info["id"], request.query.get("ticket", "")
    row = await store.run(lambda tx: files.to_fetch(tx, file_id, ticket))
    request.app[CONNECTIONS].vouch(request)
    answer = web.StreamResponse(headers=_headers(row["filename"], row["content_type"]))
    answer.content_length = row["size"]
    await answer.prepare(request)
    number = sent = 0
    while content := await _part(request, file_id, number):
        await answer.write(content)
        number, sent = number + 1, sent + len(content)
    if sent < row["size"] and request.transport is not None:
        request.transport.abort()  # deleted meanwhile: what came is not all of it, and the peer must not take it for that
    else:
        await answer.write_eof()
    return answer


async def _part(request: web.Request, file_id: str, number: int) -> bytes:
    return await engine_of(request).store.run(lambda tx: files.part(tx, file_id, number))


def _headers(filename: str, content_type: str) -> dict[str, str]:
    """A browser saves it, and never runs it as a page of the engine."""
    return {
        "Content-Type": content_type,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, no-store",
    }
