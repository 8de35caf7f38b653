"""What the PyPI SDK asks beyond messages: everything it gets is printed as one JSON object."""

import json
import os
from datetime import UTC, datetime, timedelta

import httpx
from relay_sdk import Relay, RelayError
from relay_sdk.models import (
    CreateObserverTokenRequest,
    DeferDeliveryRequest,
    FailDeliveryRequest,
    UpdateObserverTokenRequest,
)

URL = os.environ["ENGINE_URL"]
made = httpx.post(f"{URL}/v1/workspaces", json={"name": "routes"}).json()["data"]
seen = {}
with Relay(api_key=made["api_key"], base_url=URL) as relay:
    ada, bob = relay.register_agent("ada"), relay.register_agent("bob")
    as_ada, as_bob = relay.as_agent(ada.token), relay.as_agent(bob.token)

    said = as_bob.send("#general", "the needle")
    seen["search"] = [row["text"] for row in as_ada.search("needle", channel="general", from_="bob", limit=5)]

    as_bob.client.post("/v1/channels", {"name": "ops"})  # what its typed method gets, it cannot parse
    as_bob.channels.archive("ops")
    seen["channels"] = [channel["name"] for channel in as_bob.client.get("/v1/channels")]
    group = as_bob.dms.create_group(["ada"], "ignored", name="team")
    as_bob.dms.remove_participant(group["id"], "bob")
    seen["conversations"] = len(relay._client.get("/v1/dm/conversations/all"))
    try:
        as_bob.dms.messages(group["id"])
    except RelayError as error:
        seen["left"] = error.code

    as_bob.dm("ada", "cannot")
    waiting = as_ada.deliveries()[-1]
    until = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    deferred = as_ada.defer_delivery(waiting.id, DeferDeliveryRequest(available_at=until))
    failed = as_ada.fail_delivery(waiting.id, FailDeliveryRequest(error="no disk"))
    seen["delivery"] = [deferred.status, failed.status, failed.error]

    content = b"the content"
    upload = as_bob.files.upload("plan.txt", "text/plain", len(content))
    sent = httpx.put(upload.upload_url, content=content).status_code
    done = as_bob.files.complete(upload.file_id)
    as_bob.send("#general", "see the plan", attachments=[done.file_id])
    shown = as_ada.files.get(done.file_id)
    seen["file"] = [sent, shown.filename, shown.size, shown.uploaded_by, httpx.get(shown.url).text]
    seen["files"] = [item.filename for item in as_ada.files.list(uploaded_by="bob")]
    as_bob.files.delete(done.file_id)

    minted = relay.observer_tokens.create(CreateObserverTokenRequest(name="eye", scopes=["search:read"]))
    changed = relay.observer_tokens.update(minted.id, UpdateObserverTokenRequest(description="d"))
    rotated = relay.observer_tokens.rotate(minted.id)
    seen["token"] = [changed.description, rotated.token != minted.token, len(relay.observer_tokens.list())]
    relay.observer_tokens.revoke(minted.id)

    for client in (as_ada, as_bob):
        client.client.close()
print(json.dumps(seen))
