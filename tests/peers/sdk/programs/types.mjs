// Reads JSON lines {"kind":"frame"|"event","value":…} and prints what the published schemas refuse.
import { readFileSync } from 'node:fs';
import { parseFleetRelaycastToBrokerMessage, ServerEventSchema } from '@relaycast/types';

const refused = [];
const lines = readFileSync(process.env.RECORDED, 'utf8').trim().split('\n');
for (const line of lines) {
  const { kind, value } = JSON.parse(line);
  try {
    if (kind === 'frame') parseFleetRelaycastToBrokerMessage(value);
    else ServerEventSchema.parse(value);
  } catch (error) {
    refused.push({ kind, value, why: String(error.message).slice(0, 500) });
  }
}
console.log(JSON.stringify({ checked: lines.length, refused }));
