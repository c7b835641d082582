// Node's ws as a client: node ws_client.cjs URL [CA]. Ends with status 1 where something is not as it should be.

const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const WebSocket = require('ws');

const [, , url, ca] = process.argv;
const options = ca ? { ca: fs.readFileSync(ca) } : {};
const open = (path) => new Promise((resolve, reject) => {
  const socket = new WebSocket(url + path, options);
  socket.once('open', () => resolve(socket));
  socket.once('error', reject);
});
const event = (socket, name) => new Promise((resolve) => { socket.once(name, (...values) => resolve(values)); });

async function main() {
  const socket = await open('/chat');
  for (const message of [Buffer.from('hello'), Buffer.alloc(0), crypto.randomBytes(1 << 20)]) {
    socket.send(message);
    const [back] = await event(socket, 'message');
    assert(back.equals(message), `${message.length} bytes come back`);
  }
  socket.ping('are you there');
  assert.strictEqual(String((await event(socket, 'pong'))[0]), 'are you there');
  // Many at once, in order.
  const count = 500;
  const received = [];
  socket.on('message', (data) => received.push(String(data)));
  for (let n = 0; n < count; n += 1) socket.send(String(n));
  while (received.length < count) await event(socket, 'message');
  assert.deepStrictEqual(received, [...Array(count).keys()].map(String));
  socket.send('close 4002 from the server');
  const [code, reason] = await event(socket, 'close');
  assert.deepStrictEqual([code, String(reason)], [4002, 'from the server']);

  const refused = new WebSocket(`${url}/refused`, options);
  const [, response] = await event(refused, 'unexpected-response');
  assert.strictEqual(response.statusCode, 403);
  refused.on('error', () => {});
  refused.terminate();
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
