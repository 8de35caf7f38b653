// What the npm SDK asks beyond messages: everything it gets is printed as one JSON object.
import { createHmac } from 'node:crypto';
import { createServer } from 'node:http';
import { RelayCast, RelaycastSetup } from '@relaycast/sdk';

const baseUrl = process.env.ENGINE_URL;
const seen = {};
const workspace = await new RelaycastSetup({ baseUrl }).createWorkspace({ name: 'routes' });
const relay = new RelayCast({ apiKey: workspace.getApiKey(), baseUrl });
const ada = await relay.registerAgent({ name: 'ada', type: 'agent' });
const bob = await relay.registerAgent({ name: 'bob', type: 'agent' });
const asAda = relay.as(ada.token);
const asBob = relay.as(bob.token);

// search
await asBob.channels.create({ name: 'ops', topic: 'operations' });
const said = await asBob.send('#ops', 'the needle in ops');
await asBob.send('#general', 'another needle');
seen.search = (await asBob.search('needle', { channel: 'ops', from: 'bob', limit: 5 })).map((hit) => [hit.channelName, hit.text]);
seen.hidden = (await asAda.search('needle')).map((hit) => hit.text);
seen.found = (await asBob.search('needle', { before: said.id })).length;

// channels, conversations, activity
await asBob.channels.update('ops', { metadata: { team: 'red' } });
seen.topic = (await asBob.channels.setTopic('ops', 'new topic')).topic;
await asBob.channels.archive('ops');
seen.archived = (await asBob.channels.list({ includeArchived: true })).map((channel) => [channel.name, channel.isArchived]);
const group = await asBob.dms.createGroup({ participants: ['ada'], name: 'team' });
const carol = await relay.registerAgent({ name: 'carol', type: 'agent' });
seen.added = await asBob.dms.addParticipant(group.id, 'carol');
await relay.as(carol.token).dms.removeParticipant(group.id, 'carol');
await asBob.dms.sendMessage(group.id, 'in the group');
seen.conversations = (await relay.allDmConversations()).map((item) => [item.type, item.participants.sort(), item.lastMessage.text, item.messageCount]);
seen.overheard = (await relay.dmMessages(group.id)).map((item) => item.text);
seen.activity = (await relay.activity(2)).map((item) => [item.type, item.text]);

// what agents say of their work, the workspace and its prompt
const emitted = await relay.agents.events.emit('ada', { type: 'status.idle', payload: { why: 'done' } });
seen.events = (await relay.agents.events.list('ada', { type: 'status.idle', limit: 5 })).map((event) => [event.id === emitted.id, event.payload.why]);
seen.status = (await relay.agents.get('ada')).status;
seen.renamed = (await relay.workspace.update({ name: 'renamed' })).name;
seen.prompts = [await relay.systemPrompt.get(), await relay.systemPrompt.set({ prompt: 'be kind' })];
seen.missing = await relay.triggers.list().catch((error) => [error.statusCode, error.message]);

// deliveries that are not taken
await asBob.dm('ada', 'cannot');
const delivery = (await asAda.deliveries()).at(-1);
const until = new Date(Date.now() + 60000).toISOString();
const deferred = await asAda.deferDelivery(delivery.id, { availableAt: until, reason: 'busy' });
seen.deferred = [deferred.status, deferred.availableAt === until];
const failed = await asAda.failDelivery(delivery.id, { error: 'no disk', retryable: false });
seen.failed = [failed.status, failed.error, failed.retryable];

// webhooks
const hook = await relay.webhooks.create({ name: 'ci', channel: 'general' });
seen.hooked = (await relay.webhooks.trigger(hook.webhookId, { text: 'built', author: 'robot' }, hook.token)).channel;
seen.webhooks = (await relay.webhooks.list()).map((item) => item.name);
seen.said = (await relay.messages.list('general', { limit: 1 })).map((item) => [item.agentName, item.text]);
await relay.webhooks.delete(hook.webhookId);

// files
const content = new TextEncoder().encode('the content');
const upload = await asBob.files.upload({ filename: 'plan.txt', contentType: 'text/plain', sizeBytes: content.length });
seen.sent = (await fetch(upload.uploadUrl, { method: 'PUT', body: content })).status;
const file = await asBob.files.complete(upload.id);
const carried = await asBob.send('#general', 'see the plan', { attachments: [file.id] });
seen.carried = carried.attachments.map((item) => [item.fileId === file.id, item.filename, item.sizeBytes]);
seen.fetched = await (await fetch((await asAda.files.get(file.id)).downloadUrl)).text();
seen.files = (await asAda.files.list({ uploadedBy: 'bob', limit: 5 })).map((item) => item.filename);
seen.notMine = await asAda.files.delete(file.id).catch((error) => error.statusCode);
await asBob.files.delete(file.id);
seen.noFile = await asAda.files.get(file.id).catch((error) => error.statusCode);

// subscriptions
const posted = [];
const receiver = createServer((request, response) => {
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', () => {
    const id = `${request.headers['webhook-id']}.${request.headers['webhook-timestamp']}.${body}`;
    const signature = `v1,${createHmac('sha256', 'shared').update(id).digest('base64')}`;
    posted.push([JSON.parse(body).data.message.text, signature === request.headers['webhook-signature'], request.headers['x-mine']]);
    response.writeHead(204).end();
    receiver.emit('posted');
  });
});
await new Promise((resolve) => receiver.listen(0, '127.0.0.1', resolve));
const arrived = new Promise((resolve) => receiver.once('posted', resolve));
const subscription = await relay.subscriptions.create({
  events: ['message.created'],
  filter: { channel: 'general', mentions: 'ada' },
  url: `http://127.0.0.1:${receiver.address().port}/`,
  headers: { 'x-mine': 'yes' },
  secret: 'shared',
});
await asBob.send('#general', 'for nobody');
await asBob.send('#general', 'for @ada');
await arrived;
seen.posted = posted;
seen.subscription = [(await relay.subscriptions.get(subscription.id)).events, (await relay.subscriptions.list()).length];
seen.unsafe = await relay.subscriptions
  .create({ events: ['message.created'], url: 'http://169.254.169.254/' })
  .catch((error) => error.statusCode);
await relay.subscriptions.delete(subscription.id);
seen.subscriptions = (await relay.subscriptions.list()).length;
receiver.close();

// observer tokens
const minted = await relay.observerTokens.create({ name: 'eye', scopes: ['search:read', 'stream:read'] });
const again = await relay.observerTokens.create({ name: 'eye', scopes: ['stream:read', 'search:read'] });
seen.minted = [minted.id === again.id, minted.token === again.token];
const eye = new RelayCast({ apiKey: again.token, baseUrl });
const watching = new Promise((resolve) => eye.on.connected(resolve));
eye.connect();
await watching;
eye.disconnect();
seen.observed = await eye.activity().catch((error) => error.statusCode);
await relay.observerTokens.update(minted.id, { scopes: ['activity:read'] });
seen.scopes = (await relay.observerTokens.get(minted.id)).scopes;
const rotated = await relay.observerTokens.rotate(minted.id);
seen.observable = (await new RelayCast({ apiKey: rotated.token, baseUrl }).activity()).length > 0;
await relay.observerTokens.revoke(minted.id);
seen.tokens = (await relay.observerTokens.list()).length;

await relay.workspace.delete();
seen.after = await relay.workspace.info().catch((error) => error.statusCode);

console.log(JSON.stringify(seen));
process.exit(0);
