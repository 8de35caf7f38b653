// Parses every frame of a JSONL file with the published schemas. Usage: check_frames.mjs FILE; each line {"to": "node"|"engine", "frame": …}.
import { readFileSync } from 'node:fs';
import { parseFleetBrokerToRelaycastMessage, parseFleetRelaycastToBrokerMessage } from '@relaycast/types';

let checked = 0;
const refused = [];
for (const line of readFileSync(process.argv[2], 'utf8').split('\n').filter(Boolean)) {
  const { to, frame } = JSON.parse(line);
  try {
    (to === 'engine' ? parseFleetBrokerToRelaycastMessage : parseFleetRelaycastToBrokerMessage)(frame);
    checked += 1;
  } catch (error) {
    refused.push({ to, frame, error: String(error.message).slice(0, 400) });
  }
}
console.log(JSON.stringify({ checked, refused }));
