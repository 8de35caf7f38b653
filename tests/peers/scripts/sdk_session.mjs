// What a user of @relaycast/sdk does first. Usage: sdk_session.mjs ENGINE_URL. Prints one JSON object with what was seen.
import { RelayCast, RelaycastSetup } from '@relaycast/sdk';

const baseUrl = process.argv[2];
const workspace = await new RelaycastSetup({ baseUrl }).createWorkspace({ name: 'sdk-peers' });
const relay = new RelayCast({ apiKey: workspace.apiKey, baseUrl });
const planner = await relay.agents.register({ name: 'planner', type: 'agent' });
const worker = await relay.agents.register({ name: 'worker', type: 'agent' });
const from = relay.as(planner.token);
const to = relay.as(worker.token);

to.connect();
const connected = new Promise((resolve) => to.on.connected(resolve));
const seen = [];
const done = new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error(`only ${JSON.stringify(seen)}`)), 15000);
  const note = (kind) => (event) => {
    seen.push([kind, event.message?.text ?? event.text]);
    if (seen.length === 3) { clearTimeout(timer); resolve(); }
  };
  to.on.dmReceived(note('dm'));
  to.on.messageCreated(note('channel'));
  to.on.threadReply(note('reply'));
});
await connected;

const dm = await from.dm('worker', 'hello by dm');
const posted = await from.send('general', 'hello everybody');
const reply = await from.reply(posted.id, 'hello in the thread');
await done;

const thread = await to.thread(posted.id);
const inboxBefore = await to.inbox();
await to.disconnect();
console.log(JSON.stringify({
  seen: seen.map(([kind]) => kind),
  texts: seen.map(([, text]) => text),
  dm: dm.id ?? dm.message?.id,
  reply: reply.id,
  thread: thread.replies.map((item) => item.text),
  agents: (await relay.agents.list()).map((agent) => agent.name).sort(),
  unreadDms: inboxBefore.unreadDms?.length ?? inboxBefore.unread_dms?.length,
}));
process.exit(0);
