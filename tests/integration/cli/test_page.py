"""The web page in a real browser: what it shows is what the broker says, its buttons do what they say, and nothing of others runs in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from relaybroker.adapters.http.api.page_sessions import PAGE_ROUTES
from relaybroker.adapters.http.api.table import OPEN_PATHS, ROUTES
from relaybroker.domain.reasons import SENTENCES, Reason
from tests.integration.cli.conftest import started
from tests.waiting import WAIT_S

CHROMIUM = shutil.which("chromium")
ASKS = Path(__file__).parents[2] / "e2e" / "agents" / "asks.py"
PICTURES = Path(__file__).parents[3] / "docs" / "pictures"
"""Where the pictures of the documentation are; made anew with MAKE_PICTURES=1."""
REFUSED = "Failed to load resource: the server responded with a status of 409 (Conflict)"
"""What the browser says of an answer that the test provokes."""
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A broker with a message that was typed, one that nobody can type, one held, and one that would like to be a script."""
    from tests.integration.cli.conftest import Desk

    made = Desk(tmp_path_factory.mktemp("page"))
    try:
        started(made)
        for name in ("ann", "bob"):
            assert made.run("agent", "spawn", name, "--", "cat").returncode == 0
        typed = made.run("message", "send", "ann", HOSTILE, "--json")
        made.typed = json.loads(typed.stdout)["message_id"]
        _post_through_the_engine(made, "ann", "x" * 20_000)
        assert made.run("agent", "mode", "bob", "manual_flush").returncode == 0
        assert made.run("message", "send", "bob", "for later").returncode == 0
        made.until(
            lambda: (
                (status := json.loads(made.run("status", "--json").stdout))["dead_letter_count"] == 1
                and status["totals"]["acked"] >= 1
                and any(row["held_count"] for row in status["agents"])
            ),
            "everything is as the page shall show it",
        )
        yield made
    finally:
        made.close()


def _post_through_the_engine(desk, to, text):
    """A message of another agent, which this broker does not see before it is delivered."""
    key = desk.connection["api_key"]
    workspace = json.loads(_asked(desk, "/api/session", **{"X-API-Key": key})[2])["workspace_key"]
    engine = json.loads((desk.state / "engine" / "ready.json").read_text())["url"]

    def ask(path, token, body):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(engine + path, method="POST", headers=headers, data=json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return json.loads(answer.read())["data"]

    planner = ask("/v1/agents", workspace, {"name": "planner"})["token"]
    ask("/v1/dm", planner, {"to": to, "text": text})


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, desk):
    """The page, logged in; whatever the browser complains of fails the test."""
    context = chromium.new_context(viewport={"width": 1200, "height": 760}, locale="en-GB", accept_downloads=True)
    context.set_default_timeout(WAIT_S * 1000)
    opened = context.new_page()
    complaints = []
    opened.on(
        "console",
        lambda one: (
            complaints.append(f"{one.text} {one.location.get('url')}") if one.type in ("error", "warning") else None
        ),
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(json.loads(desk.run("open", "--json").stdout)["url"])
    opened.wait_for_selector("table")
    yield opened
    context.close()
    assert [one for one in complaints if REFUSED not in one] == []


def _picture(page, name):
    if os.environ.get("MAKE_PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        page.screenshot(path=str(PICTURES / f"{name}.png"))


@needs_browser
def test_the_fleet_is_that_of_the_broker_and_follows_it(page, desk):
    rows = page.locator("table").first.locator("tbody tr")
    said = json.loads(desk.run("agent", "ls", "--json").stdout)
    assert {row.split()[0] for row in rows.all_inner_texts()} == {one["name"] for one in said}
    assert page.locator("#link").inner_text() == "link online"
    assert desk.run("agent", "spawn", "eve", "--", "cat").returncode == 0
    page.get_by_role("link", name="eve").wait_for()
    _picture(page, "fleet")
    assert desk.run("agent", "release", "eve").returncode == 0
    page.get_by_role("link", name="eve").wait_for(state="detached")


@needs_browser
def test_a_story_says_what_why_says_and_is_saved_without_what_people_wrote(page, desk, tmp_path):
    page.get_by_role("link", name="Deliveries").click()
    page.get_by_role("link", name=desk.typed).first.click()
    verdict = page.locator(".verdict").inner_text()
    story = json.loads(desk.run("why", desk.typed, "--json").stdout)[0]
    assert story["verdict"] in verdict
    page.locator("table", has_text="What happened").locator("details").first.click()
    assert page.title() != "owned"
    steps = page.locator("table", has_text="What happened").locator("tbody tr").count()
    assert steps == len(story["steps"])
    _picture(page, "story")
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert page.locator(".verdict").inner_text() == verdict, "the address is permanent"
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a file").click()
    download.value.save_as(tmp_path / "why.html")
    saved = (tmp_path / "why.html").read_text()
    assert story["verdict"].split(" ", 3)[0] in saved
    assert "onerror" not in saved
    assert "<script" not in saved


@needs_browser
def test_a_conversation_has_a_mark_for_every_recipient_and_leads_to_its_stories(page, desk):
    page.get_by_role("link", name="Conversation").click()
    rows = page.locator("tbody tr")
    typed = rows.filter(has_text="onerror")
    typed.wait_for()
    assert "ann: acknowledged" in typed.inner_text()
    assert page.title() != "owned"
    said = json.loads(desk.run("message", "ls", "--json").stdout)
    marks = {mark["agent"]: mark["mark"] for one in said for mark in one["marks"] if one["text"] == "for later"}
    assert f"bob: {marks['bob']}" in rows.filter(has_text="for later").inner_text()
    assert "not delivered" in rows.filter(has_text="xxxxx").inner_text()
    _picture(page, "conversation")
    page.get_by_label("Text").fill("later")
    page.get_by_role("button", name="Search").click()
    typed.wait_for(state="detached")
    assert rows.count() == 1
    page.get_by_role("link", name="story").click()
    page.get_by_role("heading", name="delivery:").wait_for()


@needs_browser
def test_what_needs_a_person_is_listed_with_its_remedy_as_a_button(page, desk):
    page.get_by_role("link", name=re.compile("Needs you")).click()
    page.get_by_role("button", name="flush").wait_for()
    assert SENTENCES[Reason.TOO_LARGE] in page.locator("table", has_text="Dead letters").inner_text()
    _picture(page, "needs")
    page.get_by_role("button", name="redeliver").click()
    page.locator("#said", has_text="too_large").wait_for()
    page.get_by_role("button", name="flush").click()
    page.locator("#said", has_text="let through").wait_for()
    desk.until(lambda: not json.loads(desk.run("agent", "pending", "bob", "--json").stdout), "flushed")


@needs_browser
def test_the_log_is_searched_by_address_and_by_keyboard(page, desk):
    page.keyboard.press("l")
    page.locator("caption", has_text="Events").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("ann")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"#/log\?agent=ann$"))
    page.locator("td", has_text="delivery.offered.v1").first.wait_for()
    assert page.locator("main").inner_text().count("<img src=x") >= 1, "shown as it was written"
    assert page.title() != "owned"
    assert page.evaluate("document.querySelectorAll('img').length") == 0


@needs_browser
def test_page_status_and_metrics_say_the_same_of_the_same_moment(page, desk):
    """What is counted in the log is counted on the page, in `status` and for Prometheus."""
    status = json.loads(desk.run("status", "--json").stdout)
    metrics = dict(
        re.findall(
            r'^relay_deliveries_total\{outcome="(\w+)"\} ([\d.]+)$', desk.run("metrics", "show").stdout, re.MULTILINE
        )
    )
    assert {name: float(value) for name, value in metrics.items()} == {name: status["totals"][name] for name in metrics}
    page.get_by_role("link", name="Machines").click()
    machine = page.locator("table", has=page.locator("caption", has_text=re.compile("^delivery$")))
    waiting = machine.locator("tbody tr", has=page.locator("td:first-child", has_text=re.compile("^held$")))
    assert waiting.locator("td").nth(1).inner_text() == str(sum(row["held_count"] for row in status["agents"]) or "")
    page.get_by_role("link", name="Fleet").click()
    rows = page.locator("table", has_text="Over the life of the log").locator("tbody tr")
    rows.first.wait_for()
    shown = {name: int(many) for name, many in (row.rsplit("\t", 1) for row in rows.all_inner_texts())}
    assert shown == {name.replace("_", " "): many for name, many in status["totals"].items()}
    log = json.loads(desk.run("log", "stats", "--json").stdout)
    assert log["events"] >= status["log_position"]


@needs_browser
def test_a_terminal_is_seen_and_typed_into(page, desk):
    page.goto(page.url.partition("#")[0] + "#/terminal/bob")
    page.get_by_label("Keys for bob").fill("typed from the page")
    page.get_by_role("button", name="Type, with Enter").click()
    page.locator("pre", has_text="typed from the page").wait_for()


@needs_browser
def test_a_question_is_answered_by_a_button_per_option(page, desk, tmp_path):
    log = tmp_path / "chosen"
    asks = (sys.executable, str(ASKS), str(log), "Do you trust this folder?|No, exit|Yes, I trust it")
    assert desk.run("agent", "spawn", "asker", "--", *asks).returncode == 0
    try:
        page.get_by_role("link", name="Needs you").click()
        chosen = page.get_by_role("button", name="Yes, I trust it")
        try:
            chosen.wait_for()
        except Exception as error:  # what the page and the broker say instead
            said = desk.run("agent", "questions", "--json").stdout
            raise AssertionError(f"{page.locator('main').inner_text()}\n{said}") from error
        chosen.click()
        chosen.wait_for(state="detached")
        assert log.read_text() == "Yes, I trust it\n"
    finally:
        desk.run("agent", "release", "asker")  # it has ended, unless this test failed


@needs_browser
def test_who_only_looks_changes_nothing_and_a_link_is_good_once(chromium, desk):
    url = json.loads(desk.run("open", "--json", "--read-only").stdout)["url"]
    context = chromium.new_context()
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("table")
    assert page.get_by_role("button", name="hold").first.is_disabled()
    csrf = page.evaluate("fetch('/api/page/session').then((found) => found.json())")["csrf"]
    refused = page.evaluate(
        "([csrf]) => fetch('/api/spawned/ann/flush', {method: 'POST', headers: {'X-CSRF-Token': csrf}}).then((a) => a.json())",
        [csrf],
    )
    assert refused["code"] == "read_only"
    second = chromium.new_context()
    other = second.new_page()
    other.goto(url)
    other.locator("code", has_text="relaybroker open").wait_for()
    context.close()
    second.close()


def _asked(desk, path, method="GET", **headers):
    request = urllib.request.Request(desk.connection["url"] + path, method=method, headers=headers)
    if method == "POST":
        request.data = b"{}"
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.fixture
def cookie(desk):
    url = json.loads(desk.run("open", "--json").stdout)["url"]
    _, headers, _ = _asked(desk, url.removeprefix(desk.connection["url"]))
    given = headers["Set-Cookie"]
    assert "HttpOnly" in given
    assert "SameSite=Strict" in given
    return given.partition(";")[0]


def test_a_session_opens_what_the_page_needs_and_nothing_else(desk, cookie):
    """No key, no start, no end; and nothing is changed without the token of the session."""
    keys = {route.key for route in ROUTES}
    assert keys >= PAGE_ROUTES
    for route in sorted(keys - PAGE_ROUTES):
        method, path = route.split(" ")
        if path in OPEN_PATHS or path.endswith("ws"):
            continue
        status, _, body = _asked(desk, path.replace("{", "").replace("}", ""), method, Cookie=cookie)
        assert (status, json.loads(body)["code"]) == (403, "page_scope"), route
    status, _, body = _asked(desk, "/api/spawned/ann/flush", "POST", Cookie=cookie)
    assert (status, json.loads(body)["code"]) == (403, "csrf")
    token = json.loads(_asked(desk, "/api/page/session", Cookie=cookie)[2])["csrf"]
    assert _asked(desk, "/api/spawned/ann/flush", "POST", **{"Cookie": cookie, "X-CSRF-Token": token})[0] == 200
    from_elsewhere = {"Cookie": cookie, "X-CSRF-Token": token, "Origin": "http://evil.example"}
    assert _asked(desk, "/api/spawned/ann/flush", "POST", **from_elsewhere)[0] == 403
    assert _asked(desk, "/api/page/leave", "POST", **{"Cookie": cookie, "X-CSRF-Token": token})[0] == 200
    assert _asked(desk, "/api/status", Cookie=cookie)[0] == 401


def test_who_is_not_logged_in_gets_nothing_of_the_page_but_how_to_log_in(desk, cookie):
    for path in ("/ui", "/ui/app.js", "/ui/app.css", "/ui/enter", "/ui/enter?ticket=nonsense"):
        for headers in ({}, {"X-API-Key": "nonsense"}, {"Cookie": cookie[:-1]}):
            status, told, body = _asked(desk, path, **headers)
            assert (status, told["Content-Type"]) == (401, "text/html; charset=utf-8"), path
            assert b"relaybroker open" in body
            assert b"script" not in body
            assert "default-src 'none'" in told["Content-Security-Policy"]
    assert _asked(desk, "/ui", **{"X-API-Key": desk.connection["api_key"]})[0] == 200


def test_the_files_of_the_page_forbid_what_is_not_theirs(desk, cookie):
    for path in ("/ui", "/ui/app.js", "/ui/app.css"):
        status, headers, body = _asked(desk, path, Cookie=cookie)
        assert status == 200
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert b"http://" not in body, "nothing from elsewhere"
        assert b"https://" not in body
        assert b"innerHTML" not in body
