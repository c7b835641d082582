// One HTTP/2 request; what comes back is printed as JSON.
//
//   node h2_client.mjs '{"url": …, "headers": {…}, "body": TEXT, "trailers": {…}, "ca": FILE}'

import fs from 'node:fs';
import http2 from 'node:http2';

const request = JSON.parse(process.argv[2]);
const url = new URL(request.url);
const session = http2.connect(url.origin, request.ca ? { ca: fs.readFileSync(request.ca) } : {});
const answer = { informational: [], status: 0, headers: {}, body: '', trailers: {}, reset: null, error: null };

const without = (headers) => Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(':')));
const finish = () => {
  session.destroy();
  console.log(JSON.stringify(answer));
};
session.on('error', (error) => { answer.error = String(error.code ?? error); finish(); });
const headers = { ':method': 'GET', ':path': url.pathname + url.search, ...request.headers };
const stream = session.request(headers, {
  endStream: request.body === undefined && !request.trailers,
  waitForTrailers: Boolean(request.trailers),
});
stream.on('headers', (seen) => answer.informational.push([seen[':status'], without(seen)]));
stream.on('response', (seen) => { answer.status = seen[':status']; answer.headers = without(seen); });
stream.on('trailers', (seen) => { answer.trailers = without(seen); });
stream.on('wantTrailers', () => stream.sendTrailers(request.trailers));
stream.on('data', (part) => { answer.body += part.toString('latin1'); });
stream.on('error', (error) => { answer.error = String(error.code ?? error); });
stream.on('close', () => { answer.reset = stream.rstCode; finish(); });
if (request.body !== undefined || request.trailers) stream.end(request.body ?? '');
