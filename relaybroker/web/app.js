// The page of a broker. Everything that others wrote is put in as text; nothing is ever read as HTML.

const MARKS = { acknowledged: "ok", read: "ok", typed: "ok", "not delivered": "bad" };
const EVERY_MS = 2000;      // between two looks at what is live
const PAGE = 100;           // rows that are asked for at once
const SAID_MS = 6000;

const main = document.getElementById("main");
let session = { csrf: "", read_only: true };
let timer = 0;
let shown = 0;              // counts views, so that a late answer of a former one changes nothing

// --- making things -----------------------------------------------------------------------------------------------------

function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick" || key === "onsubmit") made.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child instanceof Node ? child : String(child)));
  return made;
}

function table(caption, titles, rows) {
  const head = el("tr", {}, ...titles.map((title) => el("th", { scope: "col" }, title)));
  const body = rows.map((cells) => el("tr", {}, ...cells.map((cell) => cell instanceof HTMLTableCellElement ? cell : el("td", {}, cell ?? ""))));
  return el("table", {}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, ...body));
}

const number = (value) => el("td", { class: "number" }, value ?? "");
const text = (value) => el("td", { class: "text" }, value ?? "");
const link = (hash, label) => el("a", { href: hash }, label);
const story = (id, label = id) => link(`#/story/${encodeURIComponent(id)}`, label);
const agent = (name) => link(`#/terminal/${encodeURIComponent(name)}`, name);

function length(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  for (const [large, of, small, per] of [["d", 86400, "h", 3600], ["h", 3600, "m", 60], ["m", 60, "s", 1]])
    if (whole >= of) return `${Math.floor(whole / of)}${large} ${String(Math.floor((whole % of) / per)).padStart(2, "0")}${small}`;
  return "";
}

const moment = (at) => new Date(1000 * at).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });

function say(words) {
  const place = document.getElementById("said");
  place.textContent = words;
  setTimeout(() => { if (place.textContent === words) place.textContent = ""; }, SAID_MS);
}

// --- asking ------------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, body) { super(body.message ?? `status ${status}`); this.status = status; this.code = body.code ?? ""; }
}

async function ask(method, path, body) {
  const headers = method === "GET" ? {} : { "Content-Type": "application/json", "X-CSRF-Token": session.csrf };
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin", cache: "no-store" });
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, found);
  return found;
}

function button(label, does, done) {
  const made = el("button", { type: "button", disabled: session.read_only, title: session.read_only ? "this page may only look" : null, onclick: async () => {
    made.disabled = true;
    try { await does(); say(done); await refresh(); } catch (error) { say(`${error.message}${error.code ? ` [${error.code}]` : ""}`); } finally { made.disabled = session.read_only; }
  } }, label);
  return made;
}

const part = encodeURIComponent;
const flush = (name) => button("flush", () => ask("POST", `/api/spawned/${part(name)}/flush`, {}), `what was held for ${name} is let through`);
const mode = (name, held) => button(held ? "let go" : "hold", () => ask("PUT", `/api/spawned/${part(name)}/delivery-mode`, { mode: held ? "auto_inject" : "manual_flush" }), held ? `${name} gets its messages again` : `messages for ${name} are held`);

// --- views -------------------------------------------------------------------------------------------------------------

async function fleet() {
  const found = await ask("GET", "/api/status");
  head(found);
  const rows = found.agents.map((row) => [
    el("td", {}, agent(row.name)),
    el("td", { class: row.blocked_by ? "bad" : null }, row.blocked_by ? `asks: ${row.blocked_by}` : row.worker ?? row.registration),
    number(row.waiting), row.waiting_reason ?? "", length(row.waiting_since_secs), number(row.typed),
    row.last_typed_secs_ago === null ? "never" : `${length(row.last_typed_secs_ago)} ago`, number(row.acked), row.pid ?? "",
    el("td", {}, mode(row.name, row.delivery_mode === "manual_flush"), " ", row.delivery_mode === "manual_flush" ? flush(row.name) : null),
  ]);
  const titles = ["Agent", "State", "Waiting", "Why", "For", "Typed", "Last typed", "Acked", "Pid", "Messages"];
  const totals = Object.entries(found.totals).map(([name, many]) => [name.replaceAll("_", " "), number(many)]);
  return [
    rows.length ? table(`Agents (${rows.length})`, titles, rows) : el("p", {}, "No agents are running. Start one: relaybroker agent spawn NAME -- COMMAND"),
    table("Over the life of the log", ["What", "How many"], totals),
    found.node ? el("p", {}, `Node ${found.node.name} of ${found.node.engine}; log at #${found.log_position}.`) : "",
  ];
}

async function needs() {
  const [found, letters, { questions }] = await Promise.all([ask("GET", "/api/status"), ask("GET", "/api/dead-letters"), ask("GET", "/api/questions")]);
  head(found, letters.dead_letters.length);
  const parts = [];
  if (["refused", "backing_off"].includes(found.link.state))
    parts.push(el("p", { class: "bad" }, `The engine: ${found.link.state}, ${found.link.reason ?? ""} ${found.link.detail}. Remedy: relaybroker doctor`));
  if (!found.host.attached) parts.push(el("p", { class: "bad" }, "The PTY host is not attached: nothing is typed. Remedy: relaybroker doctor"));
  if (questions.length) parts.push(table("Questions", ["Agent", "Asks", "Answer"], questions.map((one) => [
    agent(one.name), el("td", {}, one.question, el("pre", {}, one.text.join("\n"))), one.options.length ? options(one) : answer(one.name),
  ])));
  const held = found.agents.filter((row) => row.delivery_mode === "manual_flush");
  if (held.length) parts.push(table("Held by a person", ["Agent", "Held", ""], held.map((row) => [agent(row.name), number(row.held_count), el("td", {}, flush(row.name), " ", mode(row.name, true))])));
  const deaf = found.agents.filter((row) => row.deaf_since_secs !== null && !row.blocked_by);
  if (deaf.length) parts.push(table("Messages waiting, nothing typed", ["Agent", "Waiting", "Why", "For"], deaf.map((row) => [agent(row.name), number(row.waiting), row.waiting_reason, length(row.deaf_since_secs)])));
  if (letters.dead_letters.length) parts.push(table("Dead letters", ["Message", "Agent", "From", "Why", "Age", "Remedy"], letters.dead_letters.map((row) => [
    story(row.delivery_id, row.event_id), agent(row.name), row.from, `${row.why}${row.in_doubt ? " It may have been typed." : ""}`, length(row.age_ms / 1000),
    el("td", {},
      button(row.in_doubt ? "type it again" : "redeliver", async () => {
        const done = await ask("POST", "/api/dead-letters/redeliver", row.in_doubt ? { ids: [row.id], force: true } : { ids: [row.id] });
        if (done.skipped.length) throw new Refused(409, done.skipped[0]);
      }, `${row.id} is delivered again`), " ",
      button("purge", () => ask("POST", "/api/dead-letters/purge", { ids: [row.id] }), `${row.id} is off the list`)),
  ])));
  return parts.length ? parts : [el("p", { class: "ok" }, "Nothing needs you.")];
}

function options(asked) {
  const choose = (option) => () => ask("POST", `/api/spawned/${part(asked.name)}/answer`, { option: option.key, question: asked.question });
  return el("td", {}, ...asked.options.flatMap((option) => [button(option.label, choose(option), `${asked.name}: ${option.label}`), " "]));
}

function answer(name) {
  const field = el("input", { "aria-label": `Answer for ${name}`, size: 12 });
  return el("td", {}, field, " ", button("type it", () => ask("POST", `/api/input/${part(name)}`, { data: `${field.value}\r` }), `typed to ${name}`));
}

// What people and agents said, oldest first, each with a mark for every recipient here.
async function talk(query) {
  const names = ["agent", "channel", "thread", "text"];
  const asked = new URLSearchParams({ limit: PAGE });
  for (const name of [...names, "until"]) if (query.get(name)) asked.set(name, query.get(name));
  const found = (await ask("GET", `/api/messages?${asked}`)).messages;
  const rows = found.map((row) => [
    moment(row.at), row.sender, row.to.startsWith("#") ? link(`#/talk?channel=${part(row.to.slice(1))}`, row.to) : row.to,
    el("td", { class: "text" }, el("div", { class: "said", tabindex: row.text.length > 600 ? 0 : null }, row.text)),
    el("td", {}, row.marks.length ? el("ul", { class: "marks" }, ...row.marks.map((one) => el("li", { class: MARKS[one.mark] ?? "warn" }, `${one.agent}: ${one.mark}${one.why ? `. ${one.why}` : ""}`))) : "no recipient here"),
    el("td", {}, story(row.message_id || row.event_id, "story"), " ", link(`#/talk?thread=${part(row.thread_id || row.message_id || row.event_id)}`, "thread")),
  ]);
  const older = new URLSearchParams(query);
  if (found.length) older.set("until", found[0].at - 0.001);
  return [
    filter("talk", [["agent", "From or to"], ["channel", "Channel"], ["thread", "Thread"], ["text", "Text"]], query),
    table(`Messages (${rows.length})`, ["At", "From", "To", "Text", "What became of it", ""], rows),
    el("p", {}, query.get("until") ? link("#/talk", "newest") : "", " ", found.length === PAGE ? link(`#/talk?${older}`, "older") : ""),
  ];
}

async function messages(query) {
  const filters = { agent: query.get("agent") ?? "", state: query.get("state") ?? "", before: query.get("before") ?? "" };
  const asked = new URLSearchParams({ limit: PAGE, ...Object.fromEntries(Object.entries(filters).filter(([, value]) => value)) });
  const found = await ask("GET", `/api/deliveries?${asked}`);
  const rows = found.deliveries.map((row) => [
    moment(row.offered_at), story(row.delivery_id, row.msg_id), agent(row.agent), number(row.seq), row.sender,
    el("td", { class: row.state === "acked" ? "ok" : row.state === "dead_lettered" ? "bad" : "warn" }, row.state), row.reason || row.verification,
  ]);
  const older = found.before ? link(`#/messages?${new URLSearchParams({ ...filters, before: found.before })}`, "older") : "";
  return [
    filter("messages", [["agent", "Agent"], ["state", "State"]], query),
    table(`Deliveries (${rows.length})`, ["Offered", "Message", "Agent", "Seq", "From", "State", "How"], rows),
    el("p", {}, filters.before ? link("#/messages", "newest") : "", " ", older),
  ];
}

async function log(query) {
  const names = ["agent", "topic", "machine", "stream", "reason", "text"];
  const asked = new URLSearchParams({ limit: PAGE });
  for (const name of [...names, "after"]) if (query.get(name)) asked.set(name, query.get(name));
  if (query.get("since")) asked.set("since", new Date(query.get("since")).getTime() / 1000);
  if (!query.get("after") && !query.get("since")) asked.set("newest", "true");
  const found = await ask("GET", `/api/log?${asked}`);
  const rows = found.events.map((row) => [number(`#${row.position}`), moment(row.at), row.topic, link(`#/log?stream=${part(row.stream)}`, row.stream), text(JSON.stringify(row.body))]);
  const next = new URLSearchParams(query); next.set("after", found.last);
  return [
    filter("log", [["agent", "Agent"], ["topic", "Topic"], ["machine", "Machine"], ["stream", "Stream"], ["reason", "Reason"], ["text", "Text"], ["since", "Since", "datetime-local"]], query),
    table(`Events (${rows.length})`, ["Position", "At", "Event", "Stream", "Body"], rows),
    found.events.length === PAGE ? el("p", {}, link(`#/log?${next}`, "later")) : "",
  ];
}

function filter(view, fields, query) {
  const inputs = fields.map(([name, label, type = "search"]) => el("label", {}, label, el("input", { name, type, value: query.get(name) ?? "" })));
  return el("form", { role: "search", onsubmit: (event) => {
    event.preventDefault();
    const asked = new URLSearchParams([...new FormData(event.target)].filter(([, value]) => value));
    location.hash = `#/${view}?${asked}`;
  } }, ...inputs, el("button", {}, "Search"));
}

async function told(query, id) {
  const found = await ask("GET", `/api/why/${part(id)}`);
  return found.stories.flatMap(narrated).concat(el("p", {}, save(id, found.stories)));
}

function narrated(one) {
  const good = one.outcome === "delivered" ? "ok" : one.outcome === "pending" ? "warn" : "bad";
  const since = (place) => Math.max(0, one.steps[place].since_first_s);
  const waited = (place) => place ? since(place) - since(place - 1) : 0;
  const longest = Math.max(0.001, ...one.steps.map((_, place) => waited(place)));
  const rows = one.steps.map((step, place) => [
    number(`#${step.position}`), moment(step.at), number(`+${length(since(place))}`), step.who,
    step.event, bar(waited(place), longest),
    el("td", {}, Object.keys(step.detail).length ? el("details", {}, el("summary", {}, "evidence"), el("pre", {}, JSON.stringify(step.detail, null, 1))) : ""),
  ]);
  const waits = one.waiting.map((row) => [story(row.msg_id), number(row.seq), row.state, row.reason, `${length(Date.now() / 1000 - row.since)}`]);
  return [
    el("h2", {}, one.subject),
    el("p", { class: `verdict ${good}` }, el("strong", {}, `${one.state.toUpperCase()}${one.reason ? ` (${one.reason})` : ""}: `), one.verdict),
    one.otherwise ? el("p", {}, `To do: ${one.otherwise}`) : "",
    el("p", {}, "Next: ", el("code", {}, one.next)),
    waits.length ? table("Ahead of it", ["Message", "Seq", "State", "Why", "For"], waits) : "",
    table("What happened", ["Position", "At", "After", "Who", "Event", "Waited", "Evidence"], rows),
  ];
}

function bar(seconds, longest) {
  const filled = el("span");
  filled.style.width = `${100 * seconds / longest}%`;
  return el("td", {}, seconds > 0 ? el("div", { class: "bar", role: "img", "aria-label": length(seconds), title: length(seconds) }, filled) : "");
}

// What a story says without what people wrote: texts are replaced by their length.
function redacted(value, key = "") {
  if (Array.isArray(value)) return value.map((one) => redacted(one));
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, redacted(one, name)]));
  return typeof value === "string" && ["body", "text", "last_output", "task"].includes(key) ? `[${value.length} characters]` : value;
}

function save(id, stories) {
  return el("button", { type: "button", onclick: async () => {
    const style = await (await fetch("/ui/app.css")).text();
    const page = el("main", {}, el("h1", {}, `why ${id}`), ...redacted(stories).flatMap(narrated));
    const head = `<!doctype html><html lang="en"><meta charset="utf-8"><title>relaybroker why</title><style>${style}</style>`;
    const made = new Blob([head, page.outerHTML], { type: "text/html" });
    const anchor = el("a", { href: URL.createObjectURL(made), download: `why-${id.replaceAll(/[^\w-]/g, "-")}.html` });
    anchor.click();
    URL.revokeObjectURL(anchor.href);
  } }, "Save as a file, without message texts");
}

async function machines() {
  const found = await ask("GET", "/api/machines");
  return found.machines.map((one) => table(one.name, ["State", "Now", "Next steps"], one.states.map((row) => [
    el("td", {}, row.terminal ? el("strong", {}, row.state) : row.state), number(row.count || ""),
    one.edges.filter((edge) => edge.source === row.state).map((edge) => `${edge.trigger} → ${edge.target}`).join(", "),
  ])));
}

async function terminal(query, name) {
  const found = await ask("GET", `/api/spawned/${part(name)}/snapshot?format=plain`);
  const kept = document.getElementById("keys");
  const field = kept ?? el("input", { id: "keys", "aria-label": `Keys for ${name}`, size: 40 });
  return [
    el("h2", {}, name, " ", link(`#/messages?agent=${part(name)}`, "messages"), " ", story(name, "its past")),
    el("pre", { "aria-label": `Terminal of ${name}`, tabindex: 0 }, found.screen),
    el("p", {}, field, " ", button("Type, with Enter", () => ask("POST", `/api/input/${part(name)}`, { data: `${field.value}\r` }).then(() => { field.value = ""; }), `typed to ${name}`)),
  ];
}

// --- the frame ---------------------------------------------------------------------------------------------------------

const VIEWS = { fleet, needs, talk, messages, log, machines, story: told, terminal };
const LIVE = new Set(["fleet", "needs", "machines", "terminal"]);

function head(found, letters = found.dead_letter_count) {
  const place = document.getElementById("link");
  const well = found.link.state === "online" && found.host.attached;
  const words = `link ${found.link.state}${found.host.attached ? "" : ", host not attached"}${session.read_only ? ", read-only" : ""}`;
  if (place.textContent !== words) place.textContent = words;
  place.className = well ? "ok" : "bad";
  const many = letters + found.agents.filter((row) => row.blocked_by || row.delivery_mode === "manual_flush").length + (well ? 0 : 1);
  const count = document.getElementById("needs-count");
  count.hidden = !many;
  count.textContent = many;
}

async function refresh() {
  const mine = ++shown;
  clearTimeout(timer);
  const [path, asked = ""] = (location.hash.slice(2) || "fleet").split("?");
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  const view = VIEWS[name] ?? fleet;
  for (const anchor of document.querySelectorAll("nav a")) {
    if (anchor.dataset.view === name) anchor.setAttribute("aria-current", "page"); else anchor.removeAttribute("aria-current");
  }
  try {
    const parts = await view(new URLSearchParams(asked), ...rest);
    if (mine !== shown) return;
    const busy = main.contains(document.activeElement) && ["INPUT", "BUTTON"].includes(document.activeElement.tagName) && main.dataset.hash === location.hash;
    if (!busy) main.replaceChildren(...parts.filter((part) => part !== ""));
    main.dataset.hash = location.hash;
    document.title = `${name} – relaybroker`;
  } catch (error) {
    if (mine !== shown) return;
    if (error.status === 401) main.replaceChildren(el("p", {}, "This page is not logged in. In a terminal: ", el("code", {}, "relaybroker open")));
    else if (error instanceof Refused) main.replaceChildren(el("p", { class: "bad" }, `${error.message} [${error.code}]`));
    else { const place = document.getElementById("link"); place.textContent = "the broker does not answer"; place.className = "bad"; }
    if (error.status === 401) return;
  }
  if (LIVE.has(name) || view === fleet) timer = setTimeout(refresh, EVERY_MS);
}

window.addEventListener("hashchange", () => { main.focus({ preventScroll: true }); refresh(); });
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
  const view = { f: "fleet", n: "needs", c: "talk", m: "messages", l: "log", s: "machines" }[event.key];
  if (view) location.hash = `#/${view}`;
  if (event.key === "/") { event.preventDefault(); main.querySelector("form input")?.focus(); }
});

try { session = await ask("GET", "/api/page/session"); } catch { /* the first look says what is wrong */ }
refresh();
