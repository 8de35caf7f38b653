// What the npm SDK asks beyond messages: everything it gets is printed as one JSON object.
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

console.log(JSON.stringify(seen));
