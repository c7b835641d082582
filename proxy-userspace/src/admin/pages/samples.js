// Counters become rates: what two answers differ by, over the time between them; and a bounded past of them.

/** A point a second at most, so that this is ten minutes. */
const MOST_POINTS = 600;
const MOST_AGE_MILLISECONDS = 600_000;

/** Things whose past is kept. */
const MOST_PASTS = 400;

const pasts = new Map();

/** What a counter grew by a second; null without an earlier value, and where it began anew. */
function grown(now, before, seconds) {
  if (now == null || before == null || now < before || !(seconds > 0)) return null;
  return (now - before) / seconds;
}

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

/** Rates of something that has `kernel` and `l7` counters; null for what isn't known. */
export function rates(now, before, seconds, bounds) {
  const of = (plane, figure) => {
    const [after, earlier] = [now?.[plane], before?.[plane]];
    return after && earlier ? grown(figure(after), figure(earlier), seconds) : null;
  };
  const found = {
    packets: of("kernel", (it) => it.packets),
    replies: of("kernel", (it) => it.reply_packets),
    bytes: of("kernel", (it) => it.bytes + it.reply_bytes),
    flows: of("kernel", (it) => it.flows),
    drops: of("kernel", (it) => it.drops),
    requests: of("l7", (it) => it.requests),
    errors: of("l7", (it) => it.responses[4] + (it.failures ?? 0)),
    refused: of("l7", (it) => it.responses[3]),
    accepted: of("l7", (it) => it.accepted ?? 0),
    bodies: of("l7", (it) => it.received_bytes + it.sent_bytes),
    connections: now?.l7?.connections ?? null,
    active: now?.l7?.active ?? null,
  };
  return Object.assign(found, durations(now?.l7, before?.l7, bounds));
}

/** Mean and 99th percentile of what ended between two answers. A percentile is its bucket's upper bound, as far as buckets tell. */
function durations(now, before, bounds) {
  if (!now?.durations || !before?.durations) return { mean: null, p99: null };
  const buckets = now.durations.map((number, index) => number - before.durations[index]);
  const ended = sum(buckets);
  if (ended <= 0 || buckets.some((number) => number < 0)) return { mean: null, p99: null };
  let seen = 0;
  const place = buckets.findIndex((number) => (seen += number) >= ended * 0.99);
  return {
    mean: (now.duration_seconds - before.duration_seconds) / ended,
    p99: bounds[Math.min(place, bounds.length - 1)],
  };
}

/** Rates of a whole answer: of listeners and clusters by name, of the endpoints shown by cluster and address, and of all together. */
export function picture(now, before) {
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const [after, earlier] = [now.topology, before?.topology];
  const bounds = after.latency_bounds_seconds;
  const byName = (list, key) => new Map((list ?? []).map((one) => [key(one), one]));
  const listenerKey = (one) => `${one.plane}/${one.protocol}/${one.name}`;
  const old = {
    listeners: byName(earlier?.listeners, listenerKey),
    clusters: byName(earlier?.clusters, (one) => one.name),
  };
  const listeners = new Map(after.listeners.map((one) => [one, rates(one, old.listeners.get(listenerKey(one)), seconds, bounds)]));
  const clusters = new Map();
  const endpoints = new Map();
  for (const cluster of after.clusters) {
    const previous = old.clusters.get(cluster.name);
    clusters.set(cluster.name, rates(cluster, previous, seconds, bounds));
    const known = byName(previous?.shown, (one) => one.address);
    for (const endpoint of cluster.shown) {
      endpoints.set(endpointKey(cluster.name, endpoint.address), rates(endpoint, known.get(endpoint.address), seconds, bounds));
    }
  }
  return { listeners, clusters, endpoints, total: totals([...listeners.values()], after, earlier, seconds) };
}

function totals(listeners, after, earlier, seconds) {
  const total = {};
  for (const name of ["packets", "bytes", "flows", "requests", "errors", "refused", "accepted", "bodies", "connections"]) {
    const known = listeners.map((one) => one[name]).filter((number) => number != null);
    total[name] = known.length > 0 ? sum(known) : null;
  }
  const dropped = (topology) => topology && sum(topology.drops.map((drop) => drop.packets));
  total.drops = grown(dropped(after), dropped(earlier), seconds);
  total.tracked = after.flows;
  return total;
}

export function endpointKey(cluster, address) {
  return `${cluster} ${address}`;
}

/** Adds a point to something's past. */
export function remember(key, at, point) {
  let past = pasts.get(key);
  if (!past) {
    if (pasts.size >= MOST_PASTS) pasts.delete(pasts.keys().next().value);
    past = [];
  } else {
    // The one that was longest without a point is the first to go.
    pasts.delete(key);
  }
  pasts.set(key, past);
  past.push({ at, ...point });
  while (past.length > MOST_POINTS || past[0].at < at - MOST_AGE_MILLISECONDS) past.shift();
}

/** The points of something, the oldest first. */
export function past(key) {
  return pasts.get(key) ?? [];
}
