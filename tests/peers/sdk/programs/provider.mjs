// The node provider of the npm SDK beside the broker of a node: everything it sees is printed as one JSON object.
import { NodeProviderClient, RelayCast, RelaycastSetup } from '@relaycast/sdk';

const baseUrl = process.env.ENGINE_URL;
const seen = {};
const workspace = await new RelaycastSetup({ baseUrl }).createWorkspace({ name: 'providers' });
const apiKey = workspace.getApiKey();
const relay = new RelayCast({ apiKey, baseUrl });
const ada = await relay.registerAgent({ name: 'ada', type: 'agent' });
const asAda = relay.as(ada.token);
const enrolled = await relay.nodes.create({ name: 'host-1', kind: 'ws', role: 'broker' });

// the broker of the node, which hosts bob
const broker = new WebSocket(`${baseUrl.replace('http', 'ws')}/v1/node/ws?token=${enrolled.token}`);
const frames = [];
const waiting = [];
broker.onmessage = (event) => {
  frames.push(JSON.parse(event.data));
  for (const look of [...waiting]) look();
};
function frame(wanted) {
  return new Promise((resolve) => {
    const look = () => {
      const hit = frames.find(wanted);
      if (hit) resolve(hit);
    };
    waiting.push(look);
    look();
  });
}
const say = (id, fields) => {
  broker.send(JSON.stringify({ v: 1, id, ...fields }));
  return frame((item) => item.id === id);
};
await new Promise((resolve) => (broker.onopen = resolve));
const manifest = { name: 'host-1', node_id: enrolled.id, max_agents: 0, tags: [], version: 'test' };
await say('r1', { type: 'node.register', ...manifest, capabilities: [{ name: 'spawn:claude' }, { name: 'echo' }] });
await say('r2', { type: 'agent.register', name: 'bob' });

const options = { baseUrl, nodeToken: enrolled.token, nodeId: enrolled.id, nodeName: 'host-1' };
const tools = new NodeProviderClient({
  ...options,
  provider: { name: 'tools' },
  capabilities: {
    sum: async (input, context) => {
      const said = await context.sendMessage({ to: 'general', from: 'calculator', text: `sum of ${input.a} and ${input.b}` });
      const spawned = await context.spawnAgent({ name: 'helper', cli: 'claude', task: 'help' });
      return { sum: input.a + input.b, said: said.agent_name, spawned: spawned.action_name };
    },
    fails: { kind: 'action', handler: () => { throw new Error('on purpose'); } },
  },
});
const serving = tools.serve();
seen.registered = (await tools.whenRegistered()).accepted_capabilities.map((item) => [item.name, item.accepted]);
const others = new NodeProviderClient({ ...options, provider: { name: 'others' }, capabilities: { product: (input) => input.a * input.b } });
const servingOthers = others.serve();
await others.whenRegistered();
const taken = new NodeProviderClient({ ...options, provider: { name: 'third' }, capabilities: { sum: () => 0 } });
seen.conflict = await taken.serve().catch((error) => error.code);

async function result(name, input) {
  const made = await asAda.actions.invoke(name, input);
  for (;;) {
    const now = await asAda.actions.getInvocation(name, made.invocationId);
    if (now.status === 'completed' || now.status === 'failed') return [now.status, now.output ?? now.error];
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
seen.sum = await result('sum', { a: 1, b: 2 });
seen.product = await result('product', { a: 3, b: 4 });
seen.fails = await result('fails', {});
const spawn = await frame((item) => item.type === 'action.invoke');
seen.spawn = [spawn.action, spawn.input.name];
seen.said = (await asAda.messages('general', { limit: 1 })).map((item) => [item.agentName, item.text]);
await asAda.dm('bob', 'for the broker');
seen.delivered = (await frame((item) => item.payload?.type === 'dm.received')).payload.data.text;
seen.offered = (await relay.nodes.get('host-1')).capabilities.map((item) => item.name).sort();

await tools.stop();
await serving;
seen.gone = await asAda.actions.invoke('sum', {}).catch((error) => error.statusCode);
seen.stays = await result('product', { a: 5, b: 6 });
await others.stop();
await servingOthers;
console.log(JSON.stringify(seen));
process.exit(0);
