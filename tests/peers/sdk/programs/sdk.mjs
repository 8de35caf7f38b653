// The npm SDK against an engine: everything it sees is printed as one JSON object.
import { RelayCast, RelaycastSetup } from '@relaycast/sdk';

const baseUrl = process.env.ENGINE_URL;
const seen = {};

function within(promise, what) {
  return Promise.race([
    promise,
    new Promise((_, reject) => setTimeout(() => reject(new Error(`not within 20 s: ${what}`)), 20000)),
  ]);
}

const workspace = await new RelaycastSetup({ baseUrl }).createWorkspace({ name: 'peers' });
const relay = new RelayCast({ apiKey: workspace.getApiKey(), baseUrl });
seen.workspace = workspace.workspaceId;

const ada = await relay.registerAgent({ name: 'ada', type: 'agent' });
const bob = await relay.registerAgent({ name: 'bob', type: 'agent' });
seen.status = ada.status;
const asAda = relay.as(ada.token);
const asBob = relay.as(bob.token);

relay.connect();
const observed = new Promise((resolve) => relay.on.messageCreated(resolve));
const observing = new Promise((resolve) => relay.on.connected(resolve));
await within(observing, 'observer stream');

asAda.connect();
const expected = ['messageCreated', 'dmReceived', 'threadReply', 'groupDmReceived', 'messageReacted', 'messageRead'];
const arrived = Object.fromEntries(expected.map((kind) => [kind, new Promise((resolve) => asAda.on[kind](resolve))]));
const connected = new Promise((resolve) => asAda.on.connected(resolve));
await within(connected, 'node socket');

await asBob.channels.create({ name: 'ops', topic: 'operations' });
await asAda.channels.join('ops');
await asAda.channels.join('general');
const message = await asBob.send('#ops', 'hello @ada', { idempotencyKey: 'once' });
const replayed = await asBob.send('#ops', 'hello @ada', { idempotencyKey: 'once' });
seen.idempotent = message.id === replayed.id;
seen.channel = await within(arrived.messageCreated, 'channel message');
seen.observed = await within(observed, 'observed message');

const direct = await asBob.dm('ada', 'direct', { mode: 'steer' });
seen.dm = await within(arrived.dmReceived, 'direct message');
const reply = await asBob.reply(message.id, 'reply');
seen.reply = await within(arrived.threadReply, 'thread reply');
const group = await asBob.dms.createGroup({ participants: ['ada'], name: 'team' });
await asBob.dms.sendMessage(group.id, 'to the group');
seen.group = await within(arrived.groupDmReceived, 'group message');
await asBob.react(message.id, '👍');
seen.reacted = await within(arrived.messageReacted, 'reaction');
await asBob.client.post(`/v1/messages/${encodeURIComponent(message.id)}/read`, {});
seen.read = await within(arrived.messageRead, 'read receipt');

seen.conversation = (await asAda.dms.messages(direct.conversationId)).map((item) => item.text);
seen.thread = (await asAda.thread(message.id)).replies.map((item) => item.id === reply.id);
seen.members = (await asAda.channels.members('ops')).map((item) => item.agentName).sort();
seen.presence = (await relay.agents.presence()).map((item) => item.agentName).sort();

// every delivery is acknowledged by the SDK itself
const until = Date.now() + 20000;
while ((await asAda.deliveries()).length > 0) {
  if (Date.now() > until) throw new Error('deliveries stay open');
  await new Promise((resolve) => setTimeout(resolve, 20));
}
const inbox = await asAda.inbox();
seen.unread = [inbox.unreadChannels.length, inbox.unreadDms.length];
await asAda.disconnect();
relay.disconnect();
console.log(JSON.stringify(seen));
process.exit(0);
