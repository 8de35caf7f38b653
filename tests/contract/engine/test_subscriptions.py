"""engine-contract.md section 2.13: events are posted to an address of the operator's choice, signed, until they have arrived."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json

import pytest
from aiohttp import web

from relaybroker.engine import addresses, posting, subscriptions
from relaybroker.engine.rest.subscriptions import EVENTS, NOT_TOLD
from tests.waiting import WAIT_S


class Receiver:
    """A web server that takes what is posted, or answers as it is told."""

    def __init__(self):
        self.posts = []
        self.answers = []
        self.url = ""

    async def take(self, request):
        self.posts.append(({name.lower(): value for name, value in request.headers.items()}, await request.text()))
        answer = self.answers.pop(0) if self.answers else 204
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = 204
        return web.Response(status=answer, headers={"Location": self.url + "elsewhere"})

    @property
    def bodies(self):
        return [json.loads(body) for _, body in self.posts]

    @property
    def texts(self):
        return [body["data"]["message"]["text"] for body in self.bodies]

    async def until(self, count):
        async with asyncio.timeout(WAIT_S):
            while len(self.posts) < count:
                await asyncio.sleep(0.01)
        return self.posts


@contextlib.asynccontextmanager
async def receiving(port=0):
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{rest:.*}", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    receiver.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/"
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def receiver():
    async with receiving() as made:
        yield made


@pytest.fixture
async def world(open_world, monkeypatch):
    """A workspace on an engine that may post to this machine, where ada and bob are."""
    monkeypatch.setenv(addresses.NETWORKS, "127.0.0.0/8")
    world = await open_world()
    world.ada, world.bob = await world.agent("ada"), await world.agent("bob")
    return world


async def subscribe(world, url, *events, **more):
    made = await world.post("/v1/subscriptions", {"url": url, "events": list(events) or ["message.created"]} | more)
    assert made.status == 201, made.body
    return made.data


async def shown(world, made):
    return (await world.get(f"/v1/subscriptions/{made['id']}")).data


async def now_due(world):
    """The pause after a failure is over."""
    await world.engine.store.run(lambda tx: tx.run("UPDATE subscriptions SET next_at = 0"))
    world.engine.store.submit(lambda tx: tx.after(world.engine.posts_wait.set))


async def test_an_event_is_posted_signed_and_with_the_headers_of_the_subscription(world, receiver):
    made = await subscribe(world, receiver.url + "hook?a=b", headers={"Authorization": "Bearer mine"}, secret="s3cret")
    assert "secret" not in made
    said = await world.say(world.ada, "hello")
    ((headers, body),) = await receiver.until(1)
    post = json.loads(body)
    assert (post["type"], post["data"]["channel"], post["data"]["message"]["id"]) == (
        "message.created",
        "general",
        said["id"],
    )
    assert post["subscription_id"] == made["id"]
    assert (headers["authorization"], headers["content-type"]) == ("Bearer mine", "application/json")
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    expected = base64.b64encode(hmac.new(b"s3cret", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"

    async def delivered():
        row = await shown(world, made)
        return row if row["delivered"] else None

    row = await world.until(delivered)
    assert (row["waiting"], row["dead"], row["last_error"]) == (0, 0, None)
    assert row["headers"] == {"Authorization": "[redacted]"}


async def test_without_a_secret_one_is_made_and_shown_once(world, receiver):
    made = await subscribe(world, receiver.url)
    await world.say(world.ada)
    ((headers, body),) = await receiver.until(1)
    key = base64.b64decode(made["secret"].removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    assert (
        headers["webhook-signature"]
        == f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"
    )
    assert "secret" not in await shown(world, made)
    assert made["secret"] not in str((await world.get("/v1/subscriptions")).body)


async def test_only_what_was_asked_for_is_posted(world, receiver):
    await world.post("/v1/channels", {"name": "ops"}, token=world.ada.token)
    await subscribe(world, receiver.url, filter={"channel": "#ops", "mentions": "@bob"})
    await subscribe(world, receiver.url, "thread.reply", "channel.archived")
    root = await world.say(world.ada, "hi @bob")
    await world.say(world.ada, "hi bob", "ops")
    await world.say(world.ada, "hi @bobby", "ops")
    await world.dm(world.ada, world.bob, "hi @bob")
    await world.say(world.ada, "wanted, @bob.", "ops")
    await receiver.until(1)
    await world.post(f"/v1/messages/{root['id']}/replies", {"text": "answer"}, token=world.ada.token)
    await receiver.until(2)
    assert receiver.texts == ["wanted, @bob.", "answer"]


async def test_posts_of_a_subscription_arrive_in_order_and_one_after_the_other(world, receiver):
    await subscribe(world, receiver.url)
    held = asyncio.Event()
    receiver.answers = [held]
    for number in range(5):
        await world.say(world.ada, str(number))
    await receiver.until(1)
    await subscribe(world, receiver.url + "other", "dm.received")
    await world.dm(world.ada, world.bob, "another subscription goes on")
    await receiver.until(2)
    held.set()
    await receiver.until(6)
    assert [text for text in receiver.texts if len(text) == 1] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("answer", [500, 404, 302])
async def test_what_is_not_taken_is_posted_again_and_nothing_is_followed(world, receiver, answer):
    made = await subscribe(world, receiver.url)
    receiver.answers = [answer]
    await world.say(world.ada, "again")

    async def waiting():
        row = await shown(world, made)
        return row if row["failures_in_a_row"] else None

    row = await world.until(waiting)
    assert (row["waiting"], row["last_error"], row["next_attempt_at"] is not None) == (1, f"answered {answer}", True)
    await now_due(world)
    first, second = await receiver.until(2)
    assert first[0]["webhook-id"] == second[0]["webhook-id"], "so a receiver knows that it has had it"
    assert first[1] == second[1]
    assert (await world.until(lambda: _is_free(world, made)))["delivered"] == 1


async def _is_free(world, made):
    row = await shown(world, made)
    return row if not row["waiting"] else None


async def test_a_post_that_fails_for_good_is_dead_and_seen_and_the_next_one_goes_on(world, receiver, monkeypatch):
    monkeypatch.setattr(subscriptions, "ATTEMPTS", 2)
    made = await subscribe(world, receiver.url)
    receiver.answers = [503, 503]
    await world.say(world.ada, "lost")
    await world.say(world.ada, "next")
    for failures in (1, 2):

        async def failed(failures=failures):
            return (await shown(world, made))["failures_in_a_row"] == failures

        await world.until(failed)
        await now_due(world)
    await receiver.until(3)
    assert receiver.texts == ["lost", "lost", "next"]
    row = await world.until(lambda: _is_free(world, made))
    assert (row["dead"], row["delivered"]) == (1, 1)
    (dead,) = (await world.get(f"/v1/subscriptions/{made['id']}/posts?status=dead")).data
    assert (dead["status"], dead["attempts"], dead["error"]) == ("dead", 2, "answered 503")
    assert dead["payload"]["data"]["message"]["text"] == "lost"


async def test_the_pause_grows_and_has_an_end(world, receiver):
    made = await subscribe(world, receiver.url)
    receiver.answers = [500]
    await world.say(world.ada)
    await world.until(lambda: _has_failed(world, made))
    pauses = []
    for failures in range(0, 40, 4):

        def fail(tx, failures=failures):
            tx.run("UPDATE subscriptions SET failures = ?", failures)
            (post,) = subscriptions.due(_Later(tx), 1, set())[0]
            subscriptions.failed(tx, post, "x")
            tx.run("UPDATE posts SET attempts = 0")
            return tx.the("SELECT next_at FROM subscriptions")["next_at"] - tx.now

        pauses.append(await world.engine.store.run(fail))
    assert pauses[:3] == pytest.approx([1, 16, 256])
    assert set(map(round, pauses[3:])) == {round(subscriptions.PAUSE_MAX_S)}


class _Later:
    """The transaction, when every pause is over."""

    def __init__(self, tx):
        self.all, self.now = tx.all, tx.now + 10 * subscriptions.PAUSE_MAX_S


async def _has_failed(world, made):
    return (await shown(world, made))["failures_in_a_row"]


async def test_a_queue_is_bounded_and_what_finds_no_place_is_dead_with_a_reason(world, receiver, monkeypatch):
    monkeypatch.setattr(subscriptions, "QUEUE_MAX", 2)
    monkeypatch.setattr(subscriptions, "DEAD_KEPT", 3)
    made = await subscribe(world, receiver.url)
    held = asyncio.Event()
    receiver.answers = [held]
    for number in range(7):
        await world.say(world.ada, str(number))
    row = await shown(world, made)
    assert (row["waiting"], row["dead"]) == (2, 5)
    dead = (await world.get(f"/v1/subscriptions/{made['id']}/posts?status=dead")).data
    assert [(item["payload"]["data"]["message"]["text"], item["error"]) for item in dead] == [
        ("6", "queue_full"), ("5", "queue_full"), ("4", "queue_full"),
    ]  # fmt: skip
    held.set()
    await receiver.until(2)
    assert receiver.texts == ["0", "1"]


async def test_a_queue_is_bounded_in_characters_but_takes_any_single_event(world, receiver, monkeypatch):
    monkeypatch.setattr(subscriptions, "QUEUE_SIZE", 2000)
    made = await subscribe(world, receiver.url)
    held = asyncio.Event()
    receiver.answers = [held]
    await world.say(world.ada, "x" * 3000)
    await world.say(world.ada, "y")
    row = await shown(world, made)
    assert (row["waiting"], row["dead"]) == (1, 1)
    held.set()


async def test_what_could_not_leave_in_a_day_is_dead(world, receiver):
    made = await subscribe(world, receiver.url)
    receiver.answers = [500]
    await world.say(world.ada)
    await world.until(lambda: _has_failed(world, made))
    await world.engine.store.run(
        lambda tx: tx.run("UPDATE posts SET created_at = created_at - ?", subscriptions.AGE_MAX_S)
    )
    await world.engine.store.run(subscriptions.sweep)
    assert (await shown(world, made))["dead"] == 1
    (dead,) = (await world.get(f"/v1/subscriptions/{made['id']}/posts")).data
    assert dead["error"] == "too_old"


async def test_a_receiver_that_never_answers_is_a_failure(world, receiver, monkeypatch):
    monkeypatch.setattr(posting, "ANSWER_S", 0.05)
    made = await subscribe(world, receiver.url)
    held = asyncio.Event()
    receiver.answers = [held]
    await world.say(world.ada)
    await world.until(lambda: _has_failed(world, made))
    assert (await shown(world, made))["last_error"].startswith("no answer within")
    held.set()


@pytest.mark.parametrize("said", [b"nonsense\r\n\r\n", b"", b"x" * 10_000, b"HTTP/1.1 2000 OK\r\n\r\n"])
async def test_a_receiver_that_speaks_no_http_is_a_failure(world, said):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        made = await subscribe(world, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await world.say(world.ada)
        await world.until(lambda: _has_failed(world, made))
        assert (await shown(world, made))["waiting"] == 1


async def test_a_deleted_subscription_is_posted_nothing_more(world, receiver):
    made = await subscribe(world, receiver.url)
    receiver.answers = [500]
    await world.say(world.ada)
    await world.until(lambda: _has_failed(world, made))
    path = f"/v1/subscriptions/{made['id']}"
    assert (await world.call("DELETE", path)).status == 204
    assert (await world.call("DELETE", path)).code == "subscription_not_found"
    assert await world.engine.store.run(lambda tx: tx.count("SELECT COUNT(*) FROM posts")) == 0


async def test_every_event_of_the_list_is_one_that_the_engine_tells(world, receiver):
    """What can be subscribed to happens: each is posted in this test, but those that need a node or an hour."""
    await subscribe(world, receiver.url, *sorted(EVENTS))
    ada, bob = world.ada, world.bob
    said = await world.say(ada)
    await world.post(f"/v1/messages/{said['id']}/replies", {"text": "r"}, token=bob.token)
    await world.post(f"/v1/messages/{said['id']}/reactions", {"emoji": "x"}, token=bob.token)
    await world.post(f"/v1/messages/{said['id']}/read", token=bob.token)
    await world.dm(ada, bob)
    group = (await world.post("/v1/dm/group", {"participants": ["bob"]}, token=ada.token)).data
    await world.post(f"/v1/dm/{group['id']}/messages", {"text": "g"}, token=ada.token)
    for status in ("idle", "blocked", "waiting", "offline", "active"):
        await world.call("PATCH", "/v1/agents/ada", {"status": status})
    await world.post("/v1/channels", {"name": "ops"}, token=ada.token)
    await world.call("PATCH", "/v1/channels/ops", {"topic": "t"})
    await world.post("/v1/channels/ops/join", token=bob.token)
    await world.post("/v1/channels/ops/leave", token=bob.token)
    await world.call("DELETE", "/v1/channels/ops")
    await world.file(ada)
    hook = (await world.post("/v1/webhooks", {"channel": "general"})).data
    await world.post(f"/v1/hooks/{hook['webhook_id']}", {"text": "x"}, token=hook["token"])
    first, second = (await world.get("/v1/deliveries", token=bob.token)).data[:2]
    later = {"available_at": "2999-01-01T00:00:00Z"}
    await world.engine.store.run(lambda tx: tx.run("UPDATE deliveries SET expires_at = 1e11"))
    assert (await world.post(f"/v1/deliveries/{second['id']}/defer", later, token=bob.token)).status == 200
    assert (await world.post(f"/v1/deliveries/{second['id']}/fail", {}, token=bob.token)).status == 200
    assert first["status"] in ("queued", "delivered")
    await world.post("/v1/actions", {"name": "dig", "description": "d", "handler_agent": "ada"}, token=ada.token)
    for answer in ({"output": {}}, {"error": "e"}):
        made = (await world.post("/v1/actions/dig/invoke", {}, token=bob.token)).data
        await world.post(f"/v1/actions/dig/invocations/{made['invocation_id']}/complete", answer, token=ada.token)

    async def all_are_there():
        return {body["type"] for body in receiver.bodies} == EVENTS

    await world.until(all_are_there)


async def test_what_the_engine_does_not_tell_is_refused_by_name(world):
    for event in sorted(NOT_TOLD):
        answer = await world.post("/v1/subscriptions", {"url": "https://example.com/", "events": [event]})
        assert (answer.status, answer.code, event in answer.body["error"]["message"]) == (501, "not_implemented", True)
    answer = await world.post("/v1/subscriptions", {"url": "https://example.com/", "events": ["message.made"]})
    assert (answer.status, answer.code) == (400, "invalid_request")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "x"}, {"Content-Length": "1"}, {"webhook-signature": "v1,x"}, {"Transfer-Encoding": "chunked"}, {"a b": "x"}, {"": "x"},
        {"x": "a\r\nb: c"}, {"x": "\u00fc"}, {"x": "y" * 1025}, {f"x-{n}": "y" for n in range(17)},
    ],
)  # fmt: skip
async def test_headers_that_would_change_the_request_are_refused(world, headers):
    body = {"url": "https://example.com/", "events": ["message.created"], "headers": headers}
    answer = await world.post("/v1/subscriptions", body)
    assert (answer.status, answer.code) == (400, "invalid_request")


async def test_subscriptions_are_bounded(world, monkeypatch):
    monkeypatch.setattr(subscriptions, "SUBSCRIPTIONS_MAX", 1)
    await subscribe(world, "https://example.com/", "channel.archived")
    answer = await world.post("/v1/subscriptions", {"url": "https://example.com/", "events": ["channel.archived"]})
    assert (answer.status, answer.code) == (403, "subscription_limit")


# --- where it may post to -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "https://127.0.0.1/", "https://10.0.0.1/", "https://192.168.1.1/", "https://169.254.169.254/latest",
        "https://[::1]/", "https://[fe80::1]/", "https://[fd00::1]/", "https://[::ffff:127.0.0.1]/", "https://[::7f00:1]/",
        "https://[64:ff9b::7f00:1]/", "https://[64:ff9b:1::7f00:1]/",
        "https://[2002:7f00:1::]/", "https://0.0.0.0/", "https://224.0.0.1/", "https://100.64.0.1/", "http://example.com/", "http://8.8.8.8/",
        "ftp://example.com/", "https://user:pw@example.com/", "https://example.com/#x",
        "https://", "https:///x", "nonsense", "https://a b/",
        "https://example.com:99999/", "https://ex\u00e4mple.com/", f"https://example.com/{'x' * 2048}", "https://example.com/\r\nX: y",
    ],
)  # fmt: skip
async def test_without_the_operators_word_nothing_of_this_machine_or_its_networks_is_posted_to(open_world, url):
    world = await open_world()
    answer = await world.post("/v1/subscriptions", {"url": url, "events": ["message.created"]})
    assert (answer.status, answer.code) == (400, "unsafe_url"), url


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1"])
async def test_a_name_that_leads_to_this_machine_is_refused_when_it_is_looked_up(open_world, receiver, host):
    """The look-up of the attempt decides, so a name that is changed afterwards gains nothing."""
    world = await open_world()
    ada = await world.agent("ada")
    port = receiver.url.rstrip("/").rpartition(":")[2]
    made = await subscribe(world, f"https://{host}:{port}/")
    await world.say(ada)
    await world.until(lambda: _has_failed(world, made))
    assert "127.0.0.1 is not public" in (await shown(world, made))["last_error"] or "::1 is" in str(
        await shown(world, made)
    )
    assert receiver.posts == []


async def test_the_operators_networks_are_read_strictly(monkeypatch):
    monkeypatch.setenv(addresses.NETWORKS, "127.0.0.1, 10.0.0.0/8,, fd00::/8")
    assert [str(network) for network in addresses.networks_of_environment()] == [
        "127.0.0.1/32",
        "10.0.0.0/8",
        "fd00::/8",
    ]
    monkeypatch.setenv(addresses.NETWORKS, "localhost")
    with pytest.raises(ValueError, match=addresses.NETWORKS):
        addresses.networks_of_environment()


def test_a_public_address_is_reached_by_https_and_a_listed_one_by_both(monkeypatch):
    addresses.require_allowed_url("https://8.8.8.8/", ())
    addresses.require_allowed_url("https://[2001:4860:4860::8888]/", ())
    addresses.require_allowed_url("https://example.com/", ())
    monkeypatch.setenv(addresses.NETWORKS, "10.0.0.0/8")
    listed = addresses.networks_of_environment()
    for url in ("http://10.1.2.3/", "https://10.1.2.3/", "http://[::ffff:10.1.2.3]/"):
        addresses.require_allowed_url(url, listed)
    with pytest.raises(addresses.EngineError):
        addresses.require_allowed_url("http://11.1.2.3/", listed)
