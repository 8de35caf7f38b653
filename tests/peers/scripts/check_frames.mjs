// Parses every frame that a broker sends with the published schemas. Usage: check_frames.mjs FILE (one frame a line).
import { readFileSync } from 'node:fs';
import { parseFleetBrokerToRelaycastMessage } from '@relaycast/types';

let checked = 0;
const refused = [];
for (const line of readFileSync(process.argv[2], 'utf8').split('\n').filter(Boolean)) {
  try {
    parseFleetBrokerToRelaycastMessage(JSON.parse(line));
    checked += 1;
  } catch (error) {
    refused.push({ frame: JSON.parse(line), error: String(error.message).slice(0, 400) });
  }
}
console.log(JSON.stringify({ checked, refused }));
