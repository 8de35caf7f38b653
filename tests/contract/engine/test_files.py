"""engine-contract.md section 2.12: files are sent once, attached to messages, and read by who may read these."""

import asyncio

import pytest

from relaybroker.engine import files
from relaybroker.engine.models import ATTACHMENTS_MAX, FILE_MAX


@pytest.fixture
async def pair(world):
    world.ada, world.bob, world.carol = [await world.agent(name) for name in ("ada", "bob", "carol")]
    return world


async def test_a_file_is_announced_sent_finished_and_fetched_as_it_was(pair):
    content = bytes(range(256)) * (files.PART // 128)
    made = await pair.announce(pair.ada, content, "Übersicht 1.bin", "application/octet-stream")
    path = f"/v1/files/{made['id']}"
    assert (await pair.post(f"{path}/complete", token=pair.ada.token)).code == "file_not_uploaded"
    assert (await pair.get(path, token=pair.ada.token)).data["status"] == "pending"
    assert (await pair.send(made["upload_url"], content)).status == 200
    done = (await pair.post(f"{path}/complete", token=pair.ada.token)).data
    assert (done["filename"], done["size_bytes"], done["status"]) == ("Übersicht 1.bin", len(content), "complete")
    assert (await pair.post(f"{path}/complete", token=pair.ada.token)).status == 200, "finishing twice is once"
    status, got, headers = await pair.fetch(done["download_url"])
    assert (status, got == content, headers["Content-Type"]) == (200, True, "application/octet-stream")
    assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''%C3%9Cbersicht%201.bin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"], "a page in a file is no page of the engine"


async def test_what_was_sent_never_changes(pair):
    made = await pair.announce(pair.ada, b"first")
    assert (await pair.send(made["upload_url"], b"first")).status == 200
    for _ in range(2):
        answer = await pair.send(made["upload_url"], b"other")
        assert (answer.status, answer.code) == (409, "file_uploaded")
        await pair.post(f"/v1/files/{made['id']}/complete", token=pair.ada.token)
    shown = (await pair.get(f"/v1/files/{made['id']}", token=pair.ada.token)).data
    assert (await pair.fetch(shown["download_url"]))[1] == b"first"


async def test_more_or_less_than_was_announced_is_refused_and_can_be_sent_again(pair):
    made = await pair.announce(pair.ada, b"12345")
    for content, status, code in ((b"123456", 413, "file_too_large"), (b"1234", 400, "size_mismatch")):
        answer = await pair.send(made["upload_url"], content)
        assert (answer.status, answer.code) == (status, code)

    async def more():
        yield b"123"
        yield b"456"

    answer = await pair.send(made["upload_url"], more())
    assert (answer.status, answer.code) == (413, "file_too_large"), "also where the length is not told before"
    assert (await pair.send(made["upload_url"], b"12345")).status == 200


async def test_a_sending_that_broke_off_is_replaced_by_the_next_one(pair):
    content = b"x" * (files.PART * 2)
    made = await pair.announce(pair.ada, content)
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def slowly():
        yield content[: files.PART]
        began.set()
        await goes_on.wait()
        yield content[files.PART :]

    first = asyncio.create_task(pair.send(made["upload_url"], slowly()))
    await began.wait()

    async def a_part_is_there():
        return await pair.engine.store.run(lambda tx: tx.count("SELECT COUNT(*) FROM file_parts"))

    await pair.until(a_part_is_there)
    assert (await pair.send(made["upload_url"], content)).status == 200
    goes_on.set()
    answer = await first
    assert (answer.status, answer.code) == (409, "upload_superseded")
    done = (await pair.post(f"/v1/files/{made['id']}/complete", token=pair.ada.token)).data
    assert (await pair.fetch(done["download_url"]))[1] == content


@pytest.mark.parametrize("kind", ["channel", "dm", "group", "reply"])
async def test_a_message_carries_its_files_to_everybody_who_reads_it(pair, kind):
    file = await pair.file(pair.ada)
    node = await pair.direct(pair.bob)
    named = {"file_id": file["id"], "filename": "notes.txt", "content_type": "text/plain", "size_bytes": 7}
    body = {"text": "see", "attachments": [file["id"], file["id"]]}
    if kind == "channel":
        path = "/v1/channels/general/messages"
    elif kind == "dm":
        path, body = "/v1/dm", body | {"to": "bob"}
    elif kind == "reply":
        path = f"/v1/messages/{(await pair.say(pair.bob))['id']}/replies"
    else:
        group = (await pair.post("/v1/dm/group", {"participants": ["bob"]}, token=pair.ada.token)).data
        path = f"/v1/dm/{group['id']}/messages"
    said = (await pair.post(path, body, token=pair.ada.token)).data
    assert said["attachments"] == [named], "each once"
    frame = await node.first(lambda frame: frame["type"] == "deliver" and frame["seq"] == 1)
    assert frame["payload"]["data"]["attachments"] == [named]
    shown = (await pair.get(f"/v1/messages/{said['id']}", token=pair.bob.token)).data
    assert (shown["attachments"], shown["has_attachments"]) == ([named], True)
    read = await pair.get(f"/v1/files/{file['id']}", token=pair.bob.token)
    assert (await pair.fetch(read.data["download_url"]))[1] == b"content"
    outside = (await pair.get(f"/v1/files/{file['id']}", token=pair.carol.token)).status
    assert outside == (404 if kind in ("dm", "group") else 200)


async def test_only_who_may_read_a_file_attaches_it_and_only_once_it_is_complete(pair):
    secret, half = await pair.file(pair.ada), await pair.announce(pair.bob)
    for file_id, code in (
        (secret["id"], "file_not_found"),
        ("file_1", "file_not_found"),
        (half["id"], "file_not_complete"),
    ):
        body = {"to": "carol", "text": "see", "attachments": [file_id]}
        answer = await pair.post("/v1/dm", body, token=pair.bob.token)
        assert (answer.status, answer.code) == (404 if code == "file_not_found" else 409, code)
    assert await pair.engine.store.run(lambda tx: tx.count("SELECT COUNT(*) FROM messages")) == 0
    await pair.dm(pair.ada, pair.bob, attachments=[secret["id"]])
    await pair.dm(pair.bob, pair.carol, attachments=[secret["id"]])
    assert (await pair.get(f"/v1/files/{secret['id']}", token=pair.carol.token)).status == 200, "bob passed it on"
    too_many = [secret["id"]] * (ATTACHMENTS_MAX + 1)
    assert (
        await pair.post("/v1/dm", {"to": "bob", "text": "x", "attachments": too_many}, token=pair.ada.token)
    ).status == 400


async def test_a_url_is_for_one_file_one_purpose_and_a_limited_time(open_world):
    now = [1_800_000_000.0]
    world = await open_world(clock=lambda: now[0])
    ada = await world.agent("ada")
    file, other, open_one = await world.file(ada), await world.file(ada), await world.announce(ada)
    ticket = file["download_url"].partition("?")[2]
    base = f"{world.engine.base_url}/v1/files"
    for url in (
        f"{base}/{file['id']}/content",
        f"{base}/{file['id']}/content?ticket=",
        f"{base}/{file['id']}/content?ticket=9999999999.{'0' * 64}",
        f"{base}/{file['id']}/content?ticket=9999999999.\u00fc",
        f"{base}/{other['id']}/content?{ticket}",
    ):
        assert (await world.fetch(url))[0] == 401, url
    assert (await world.send(f"{base}/{open_one['id']}/content?{ticket}", b"content")).code == "invalid_ticket"
    assert (await world.fetch(open_one["upload_url"]))[0] == 401
    assert (await world.fetch(file["download_url"]))[0] == 200
    now[0] += files.TICKET_S
    assert (await world.fetch(file["download_url"]))[0] == 401


async def test_a_deleted_file_is_gone_and_its_message_still_names_it(pair):
    file = await pair.file(pair.ada)
    said = await pair.dm(pair.ada, pair.bob, attachments=[file["id"]])
    path = f"/v1/files/{file['id']}"
    assert (await pair.call("DELETE", path, token=pair.bob.token)).status == 403
    assert (await pair.call("DELETE", path, token=pair.ada.token)).status == 204
    assert (await pair.get(path, token=pair.bob.token)).status == 404
    assert (await pair.fetch(file["download_url"]))[0] == 404
    named = (await pair.get(f"/v1/messages/{said['id']}", token=pair.bob.token)).data["attachments"]
    assert [item["file_id"] for item in named] == [file["id"]]
    assert await pair.engine.store.run(lambda tx: tx.count("SELECT COUNT(*) FROM file_parts")) == 0


async def test_files_are_listed_newest_first_and_by_who_uploaded_them(pair):
    made = [(await pair.file(agent))["id"] for agent in (pair.ada, pair.bob, pair.ada)]
    assert [row["id"] for row in (await pair.get("/v1/files")).data] == made[::-1]
    for query in ("uploaded_by=ada", "uploadedBy=ada", f"uploaded_by={pair.ada.id}"):
        assert [row["id"] for row in (await pair.get(f"/v1/files?{query}")).data] == [made[2], made[0]]
    assert [row["id"] for row in (await pair.get("/v1/files?limit=1")).data] == made[2:]
    assert [row["id"] for row in (await pair.get("/v1/files", token=pair.bob.token)).data] == [made[1]]


async def test_an_observer_sees_the_files_of_what_it_may_read(pair):
    shown, hidden = await pair.file(pair.ada), await pair.file(pair.ada)
    await pair.say(pair.ada, attachments=[shown["id"]])
    await pair.dm(pair.ada, pair.bob, attachments=[hidden["id"]])
    unsaid = await pair.file(pair.ada)
    for scopes, sees in ((["files:read"], [shown]), (["files:read", "dms:read"], [hidden, shown])):
        token = (await pair.post("/v1/observer-tokens", {"name": str(len(scopes)), "scopes": scopes})).data["token"]
        assert [row["id"] for row in (await pair.get("/v1/files", token=token)).data] == [row["id"] for row in sees]
        assert (await pair.get(f"/v1/files/{unsaid['id']}", token=token)).status == 404


@pytest.mark.parametrize("limit", ["FILES_MAX", "FILES_SIZE", "AGENT_FILES_SIZE"])
async def test_files_are_bounded_in_number_and_size(pair, monkeypatch, limit):
    monkeypatch.setattr(files, limit, 2 if limit == "FILES_MAX" else 14)
    first = await pair.file(pair.ada)
    await pair.announce(pair.ada)
    body = {"filename": "f", "content_type": "text/plain", "size_bytes": 7}
    refused = await pair.post("/v1/files/upload", body, token=pair.ada.token)
    assert (refused.status, refused.code) == (403, "file_limit")
    other = await pair.post("/v1/files/upload", body, token=pair.bob.token)
    assert other.status == (201 if limit == "AGENT_FILES_SIZE" else 403)
    await pair.call("DELETE", f"/v1/files/{first['id']}")
    assert (await pair.post("/v1/files/upload", body, token=pair.ada.token)).status == 201 or other.status == 201


@pytest.mark.parametrize(
    "fields",
    [{"filename": name} for name in ("", "a/b", "..", ".", "a\\b", "a\nb", "a\u202eb", " a", "x" * 256)]
    + [{"content_type": kind} for kind in ("", "text", "text/html\r\nSet-Cookie: a=b", "a/b; c", "x/" + "y" * 126)]
    + [{"size_bytes": size} for size in (0, -1, FILE_MAX + 1, "7", None)],
)
async def test_what_is_no_file_is_refused(pair, fields):
    body = {"filename": "f", "content_type": "text/plain", "size_bytes": 7} | fields
    answer = await pair.post("/v1/files/upload", body, token=pair.ada.token)
    assert (answer.status, answer.code) == (400, "invalid_request"), fields


async def test_what_is_not_finished_in_its_time_goes(open_world):
    now = [1_800_000_000.0]
    world = await open_world(clock=lambda: now[0])
    ada = await world.agent("ada")
    await world.announce(ada)
    sent = await world.announce(ada)
    await world.send(sent["upload_url"], b"content")
    kept = await world.file(ada)
    now[0] += files.UPLOAD_S / 2  # what is set is no time that passes: the clock leaps, and so does what waits
    await world.engine.store.run(files.sweep)
    assert len((await world.get("/v1/files")).data) == 3
    await world.engine.store.run(lambda tx: tx.run("UPDATE files SET expires_at = ?", tx.now))
    await world.engine.store.run(files.sweep)
    assert [row["id"] for row in (await world.get("/v1/files")).data] == [kept["id"]]


async def test_a_finished_file_is_told_to_the_operator(pair):
    async with pair.session.ws_connect(f"{pair.engine.base_url}/v1/ws?token={pair.key}") as stream:
        await stream.send_json({"type": "ping"})
        await stream.receive_json()
        file = await pair.file(pair.ada)
        told = {"file_id": file["id"], "filename": "notes.txt", "uploaded_by": "ada"}
        while (event := await stream.receive_json())["type"] != "file.uploaded":
            pass
        assert event == {"type": "file.uploaded", "file": told}
