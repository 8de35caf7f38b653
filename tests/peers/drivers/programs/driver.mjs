// Every public method of HarnessDriverClient, SpawnedAgentHandle and PtyInputStream, called once against a broker that this program starts.
import { HarnessDriverClient, SpawnedAgentHandle } from '@agent-relay/harness-driver';

const results = {};
const note = (method, outcome) => { results[method] = outcome; };

async function call(method, run) {
  try {
    note(method, { answer: (await run()) ?? null });
  } catch (error) {
    note(method, { code: error.code ?? error.name, status: error.status ?? null, message: String(error.message) });
  }
}

const env = { ...process.env };
const client = await HarnessDriverClient.spawn({
  binaryPath: process.env.BROKER, brokerName: 'peer', cwd: process.env.FOLDER, env,
  binaryArgs: { persist: true, stateDir: `${process.env.FOLDER}/state` },
});
note('HarnessDriverClient.spawn', { answer: typeof client.workspaceKey });
client.connectEvents();
note('HarnessDriverClient.connectEvents', { answer: null });
const heard = [];
const unheard = client.onEvent((event) => heard.push(event.kind));
note('HarnessDriverClient.onEvent', { answer: typeof unheard });
note('HarnessDriverClient.brokerPid', { answer: typeof client.brokerPid });
note('HarnessDriverClient.onBrokerExit', { answer: typeof client.onBrokerExit(() => {}) });
const hooked = [];
const unhook = client.addListener('afterAgentSpawn', (context) => hooked.push(context.name ?? context.input?.name ?? 'one'));
note('HarnessDriverClient.addListener', { answer: typeof unhook });
await call('HarnessDriverClient.getSession', async () => (await client.getSession()).protocol_version);
await call('HarnessDriverClient.healthCheck', async () => (await client.healthCheck()).service);
await call('HarnessDriverClient.getConfig', async () => typeof (await client.getConfig()).workspaceKey);
await call('HarnessDriverClient.renewLease', async () => (await client.renewLease()).renewed);
await call('HarnessDriverClient.preflight', async () => client.preflight([{ name: 'cat1', cli: 'cat' }]));

let cat;
await call('HarnessDriverClient.spawnPty', async () => {
  cat = await client.spawnPty({ name: 'cat1', cli: 'cat', channels: ['general'], idleThresholdSecs: 1 });
  return { name: cat.name, runtime: cat.runtime, pid: typeof cat.pid, sessionId: typeof cat.sessionId };
});
await call('HarnessDriverClient.spawnCli', async () => (await client.spawnCli({ name: 'cat2', cli: 'cat', transport: 'pty' })).name);
await call('HarnessDriverClient.spawnClaude', async () => (await client.spawnClaude({ name: 'claude1', transport: 'pty' })).name);
await call('HarnessDriverClient.spawnOpencode', async () => (await client.spawnOpencode({ name: 'open1' })).name);
await call('HarnessDriverClient.spawnHeadless', async () => (await client.spawnHeadless({ name: 'head1', cli: 'claude' })).name);
await call('HarnessDriverClient.listAgents', async () => (await client.listAgents()).map((one) => one.name).sort());
await call('HarnessDriverClient.getStatus', async () => (await client.getStatus()).agent_count);
await call('HarnessDriverClient.getMetrics', async () => (await client.getMetrics('cat1')).agents.map((one) => one.name));
await call('HarnessDriverClient.getCrashInsights', async () => (await client.getCrashInsights()).health_score);
await call('HarnessDriverClient.subscribeChannels', async () => client.subscribeChannels('cat1', ['lab']));
await call('HarnessDriverClient.unsubscribeChannels', async () => client.unsubscribeChannels('cat1', ['lab']));
await call('HarnessDriverClient.setModel', async () => client.setModel('cat1', 'opus', { timeoutMs: 500 }));
await call('HarnessDriverClient.snapshot', async () => (await client.snapshot('cat1', 'ansi')).format);
await call('HarnessDriverClient.resizePty', async () => client.resizePty('cat1', 30, 90));
await call('HarnessDriverClient.getInboundDeliveryMode', async () => client.getInboundDeliveryMode('cat1'));
await call('HarnessDriverClient.setInboundDeliveryMode', async () => (await client.setInboundDeliveryMode('cat1', 'manual_flush')).mode);
let sent;
await call('HarnessDriverClient.sendMessage', async () => {
  sent = await client.sendMessage({ to: 'cat1', text: 'hello', from: 'human:ann' });
  return { targets: sent.targets };
});
const until = async (holds, ms = 15000) => {
  for (const end = Date.now() + ms; Date.now() < end;) {
    const found = await holds();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('not in time');
};
await call('HarnessDriverClient.getPending', async () => {
  const held = await until(async () => { const all = await client.getPending('cat1'); return all.length && all; });
  return { same_id: held[0].event_id === sent.event_id, from: held[0].from };
});
const stream = client.subscribeWorkerStream('cat1')[Symbol.asyncIterator]();
await call('HarnessDriverClient.flushPending', async () => (await client.flushPending('cat1')).flushed);
await call('HarnessDriverClient.subscribeWorkerStream', async () => {
  let shown = '';
  await until(async () => { shown += (await stream.next()).value; return shown.includes('hello'); });
  await stream.return?.();
  return true;
});
await client.setInboundDeliveryMode('cat1', 'auto_inject');
await call('HarnessDriverClient.sendInput', async () => (await client.sendInput('cat1', 'typed\n')).bytes_written);
let keys;
await call('HarnessDriverClient.openInputStream', async () => { keys = client.openInputStream('cat1'); await keys.waitUntilOpen(); return keys.closed; });
await call('PtyInputStream.send', async () => (await Promise.all(['a', 'b', '\n'].map((one) => keys.send(one)))).map((one) => one.bytes_written));
await call('PtyInputStream.close', async () => { keys.close(); return keys.closed; });
await call('HarnessDriverClient.queryEvents', async () => {
  await until(() => client.queryEvents({ kind: 'worker_ready', name: 'cat1' }).length);
  const kinds = client.queryEvents({ name: 'cat1' }).map((one) => one.kind);
  return kinds.indexOf('agent_spawned') < kinds.indexOf('worker_ready');
});
await call('HarnessDriverClient.getLastEvent', async () => {
  const ack = await until(() => client.getLastEvent('delivery_ack', 'cat1'));
  return { same_id: ack.event_id === sent.event_id };
});
await call('SpawnedAgentHandle.waitForIdle', async () => (await cat.waitForIdle(20000)).reason);
const worker = await client.spawnPty({
  name: 'worker', cli: 'sh', agentResultSchema: { type: 'object', required: ['verdict'] },
  args: ['-c', `node --no-warnings -e "fetch(process.env.AGENT_RELAY_RESULT_URL, {method: 'POST', headers: {Authorization: 'Bearer ' + process.env.AGENT_RELAY_RESULT_TOKEN, 'Content-Type': 'application/json'}, body: JSON.stringify({data: {verdict: 'yes'}})})"; exec cat`],
});
await call('SpawnedAgentHandle.waitForResult', async () => (await worker.waitForResult(20000)).data);
await worker.release();
const quick = await client.spawnPty({ name: 'quick', cli: 'sh', args: ['-c', 'sleep 1; exit 7'] });
await call('SpawnedAgentHandle.waitForExit', async () => quick.waitForExit(20000));
note('SpawnedAgentHandle.exit', { answer: quick.exit?.reason ?? null });
note('SpawnedAgentHandle.exitCode', { answer: quick.exitCode ?? null });
note('SpawnedAgentHandle.exitSignal', { answer: quick.exitSignal ?? null });
await call('SpawnedAgentHandle.release', async () => (await cat.release('done')).name);
await call('HarnessDriverClient.release', async () => (await client.release('cat2', 'done')).name);
client.removeListener('afterAgentSpawn', () => {});
note('HarnessDriverClient.removeListener', { answer: null });
await call('HarnessDriverClient.connect', async () => {
  const other = HarnessDriverClient.connect({ connectionPath: `${process.env.FOLDER}/state/connection.json` });
  const found = (await other.getSession()).protocol_version;
  other.disconnect();
  return found;
});
note('HarnessDriverClient.disconnect', { answer: null });
client.disconnectEvents();
note('HarnessDriverClient.disconnectEvents', { answer: null });
await call('HarnessDriverClient.shutdown', async () => client.shutdown());

const methods = (type) => [
  ...Object.getOwnPropertyNames(type.prototype),
  ...Object.getOwnPropertyNames(type).filter((name) => typeof type[name] === 'function'),
].filter((name) => name !== 'constructor').map((name) => `${type.name}.${name}`);
const hidden = new Set(process.env.PRIVATE.split(','));
const known = [...methods(HarnessDriverClient), ...methods(SpawnedAgentHandle)].filter((name) => !hidden.has(name));
console.log(JSON.stringify({ results, known }));
