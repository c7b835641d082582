// The backend of most L7 tests: one handler behind HTTP/1.1, HTTP/2 without TLS, and TLS with both.
//
//   node backend.mjs '{"h1": PORT, "h2c": PORT, "tls": PORT, "cert": FILE, "key": FILE, "ca": FILE}'
//
// serves the ports that are given.
//
// The path's first part says what is done (see `actions`); anything else is echoed: the answer is JSON of what arrived.

import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import { createRequire } from 'node:module';

const options = JSON.parse(process.argv[2]);
const CHUNK = Buffer.alloc(64 * 1024);
// What `/stats` tells.
const stats = { connections: 0, aborted: 0, unanswered: 0, closed: 0 };

const pairs = (raw) => {
  const list = [];
  for (let i = 0; i < raw.length; i += 2) list.push([raw[i], raw[i + 1]]);
  return list;
};

async function text(req) {
  const parts = [];
  for await (const part of req) parts.push(part);
  return Buffer.concat(parts).toString('latin1');
}

async function write(res, bytes) {
  for (let left = bytes; left > 0; ) {
    const part = left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK;
    left -= part.length;
    if (!res.write(part)) await new Promise((resume) => res.once('drain', resume));
  }
  res.end();
}

async function echo(req, res) {
  const body = await text(req);
  const seen = {
    method: req.method,
    target: req.url,
    version: req.httpVersion,
    headers: pairs(req.rawHeaders),
    body,
    trailers: pairs(req.rawTrailers),
    server: options.name ?? 'backend',
    connection: req.socket.weirNumber ?? req.stream?.session?.socket?.weirNumber ?? 0,
    certificate: req.socket.getPeerCertificate?.()?.subject?.CN ?? null,
    server_name: req.socket.servername || null,
  };
  const answer = Buffer.from(JSON.stringify(seen));
  res.writeHead(200, { 'content-type': 'application/json', 'content-length': answer.length });
  res.end(answer);
}

const actions = {
  // /status/N (200 without N): no body, and nothing said about one where the status itself says so.
  status(_req, res, code = '200') {
    const none = code === '204' || code === '304';
    res.writeHead(Number(code), none ? { etag: '"one"' } : { 'content-length': 0 });
    res.end();
  },
  // Three chunks, then trailers.
  trailers(_req, res) {
    res.writeHead(200, { 'content-type': 'text/plain', trailer: 'x-sum, x-end' });
    res.write('one ');
    setImmediate(() => {
      res.write('two ');
      res.addTrailers({ 'x-sum': '6', 'x-end': 'yes' });
      res.end('three');
    });
  },
  // A 103 before the answer.
  hints(_req, res) {
    res.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' });
    setImmediate(() => {
      res.writeHead(200, { 'content-type': 'text/plain', 'content-length': 6 });
      res.end('after\n');
    });
  },
  // /bytes/N
  bytes(_req, res, size) {
    res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': Number(size) });
    return write(res, Number(size));
  },
  // /chunked/N: N bytes whose length is not announced.
  chunked(_req, res, size) {
    res.writeHead(200, { 'content-type': 'application/octet-stream' });
    return write(res, Number(size));
  },
  // Counts the body.
  async sink(req, res) {
    let bytes = 0;
    for await (const part of req) bytes += part.length;
    res.writeHead(200, { 'content-type': 'text/plain' });
    res.end(`${bytes}\n`);
  },
  // Answers before the body has come, and never reads it.
  early(_req, res) {
    res.writeHead(403, { 'content-type': 'text/plain', 'content-length': 3 });
    res.end('no\n');
  },
  // Sends every part of the body back as it comes: both directions at once.
  mirror(req, res) {
    res.writeHead(200, { 'content-type': 'application/octet-stream' });
    res.flushHeaders?.();
    req.pipe(res);
  },
  // Hop-by-hop headers, listed and not.
  hop(_req, res) {
    res.writeHead(200, {
      connection: 'x-listed', 'x-listed': 'secret', 'keep-alive': 'timeout=7', 'proxy-authenticate': 'Basic',
      'x-kept': 'yes', 'set-cookie': ['a=1', 'b=2'], 'content-length': 0,
    });
    res.end();
  },
  // /header/N: a response header of N bytes.
  header(_req, res, size) {
    res.writeHead(200, { 'x-long': 'x'.repeat(Number(size)), 'content-length': 0 });
    res.end();
  },
  // Never answers.
  never(req, res) {
    stats.unanswered += 1;
    (req.stream ?? res).on('close', () => { stats.aborted += 1; });
  },
  // Starts an answer and never ends it.
  stall(_req, res) {
    res.writeHead(200, { 'content-type': 'text/plain' });
    res.write('begin\n');
  },
  // Closes the connection without an answer.
  die(req) {
    (req.stream?.session ?? req.socket).destroy();
  },
  // Closes the connection in the middle of the answer.
  tear(req, res) {
    res.writeHead(200, { 'content-length': 1000 });
    res.write('x'.repeat(100), () => (req.stream?.session ?? req.socket).destroy());
  },
  // Closes the connection after the answer, without saying so before.
  hangup(req, res) {
    const answer = Buffer.from(String(req.socket.weirNumber));
    res.writeHead(200, { 'content-type': 'text/plain', 'content-length': answer.length });
    res.end(answer, () => req.socket.end(() => { stats.closed += 1; }));
  },
  stats(_req, res) {
    const answer = Buffer.from(JSON.stringify(stats));
    res.writeHead(200, { 'content-type': 'application/json', 'content-length': answer.length });
    res.end(answer);
  },
};

function handle(req, res) {
  const [, verb, argument] = req.url.split('?')[0].split('/');
  res.setHeader('x-backend', options.name ?? 'backend');
  const action = Object.hasOwn(actions, verb) ? actions[verb] : echo;
  Promise.resolve().then(() => action(req, res, argument)).catch(() => res.destroy?.());
}

// `Expect: 100-continue`: refused under /expect-refused, else the body is asked for.
function expect(req, res) {
  if (req.url.startsWith('/expect-refused')) {
    res.writeHead(417, { 'content-length': 0 });
    res.end();
    return;
  }
  res.writeContinue();
  handle(req, res);
}

// Debian's node finds its ws; for others NODE_PATH names /usr/share/nodejs.
const { WebSocketServer } = createRequire(import.meta.url)('ws');
const sockets = new WebSocketServer({ noServer: true });
sockets.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data, binary) => socket.send(data, { binary }));
});

// An upgrade under /ws is a WebSocket that echoes messages. One to anything elsewhere: refused under /refused, else the
// bytes come back.
function upgrade(req, socket, head) {
  socket.on('error', () => {});
  if (req.url.startsWith('/ws')) {
    sockets.handleUpgrade(req, socket, head, (open) => sockets.emit('connection', open, req));
    return;
  }
  if (req.url.startsWith('/refused')) {
    socket.end('HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: 8\r\nx-why: rule\r\n\r\nrefused\n');
    return;
  }
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ${req.headers.upgrade}\r\n`
    + `x-seen: ${req.headers['x-probe'] ?? ''}\r\n\r\n`);
  socket.write(head);
  socket.pipe(socket);
}

// RFC 8441 and plain CONNECT over HTTP/2: the bytes come back.
function connect(req, res) {
  if (req.url?.startsWith('/refused')) {
    res.writeHead(403, { 'x-why': 'rule' });
    res.end('refused\n');
    return;
  }
  req.stream.respond({ ':status': 200, 'x-seen': req.headers['x-probe'] ?? '' });
  req.stream.on('error', () => {});
  req.stream.pipe(req.stream);
}

function serve(server, port) {
  server.on('request', (req, res) => (req.headers[':protocol'] ? connect(req, res) : handle(req, res)));
  server.on('connect', (req, res) => req.stream && connect(req, res));
  server.on('checkContinue', expect);
  server.on('upgrade', upgrade);
  for (const event of ['connection', 'secureConnection']) {
    server.on(event, (socket) => {
      socket.weirNumber ??= ++stats.connections;
      socket.on('error', () => {});
      socket.setNoDelay?.(true);
    });
  }
  server.on('clientError', (_error, socket) => socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n'));
  server.on('sessionError', () => {});
  server.listen({ port, host: '127.0.0.1', backlog: 4096 });
}

const LIMITS = { maxHeaderSize: 1024 * 1024, headersTimeout: 0, requestTimeout: 0, keepAliveTimeout: 3600e3 };
const STREAMS = {
  settings: { enableConnectProtocol: true, maxConcurrentStreams: 1000, maxHeaderListSize: 1024 * 1024, initialWindowSize: 1 << 20 },
  maxHeaderListPairs: 2000,
};
if (options.h1) serve(http.createServer(LIMITS), options.h1);
if (options.h2c) serve(http2.createServer(STREAMS), options.h2c);
if (options.tls) {
  serve(http2.createSecureServer({
    ...LIMITS,
    ...STREAMS,
    allowHTTP1: true,
    cert: fs.readFileSync(options.cert),
    key: fs.readFileSync(options.key),
    ca: fs.readFileSync(options.ca),
    requestCert: true,
    rejectUnauthorized: false,
  }), options.tls);
}
