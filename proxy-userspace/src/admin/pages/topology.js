// Both planes from left to right: addresses, listeners, clusters, endpoints, with lines between them.

import { h } from "./dom.js";
import { counted, rate } from "./figures.js";
import { endpointKey } from "./samples.js";
import { clusterHealth, countsBar, countsText, mark, shape, stateOf, wordOf } from "./states.js";

/** Listeners and clusters that are drawn until more are asked for: a screen holds fewer. */
const MOST_NODES = 60;

const HEALTHS = ["failing", "degraded", "healthy"];

export function clusterLink(name) {
  return `#/clusters/${encodeURIComponent(name)}`;
}

export function endpointLink(cluster, address) {
  return `${clusterLink(cluster)}/${encodeURIComponent(address)}`;
}

/** The section; `view` holds what was chosen, `refresh` draws anew. */
export function topology(app, view, refresh) {
  const { listeners, clusters, hidden } = chosen(app.now.topology, view);
  return h("section", { "aria-labelledby": "topology-title", class: "topology", key: "topology" },
    h("div", { class: "bar-of-tools" },
      h("h2", { id: "topology-title" }, "Topology"),
      h("label", { class: "unseen", for: "topology-filter" }, "Filter by name or address"),
      h("input", { id: "topology-filter", type: "search", placeholder: "Filter by name or address", initial: view.filter, on: { input: (event) => { view.filter = event.target.value; refresh(); } } }),
      h("label", { class: "unseen", for: "topology-plane" }, "Planes shown"),
      h("select", { id: "topology-plane", on: { change: (event) => { view.plane = event.target.value; refresh(); } } },
        [["", "Both planes"], ["l4", "L4, the kernel"], ["l7", "L7, the workers"]].map(([value, label]) => h("option", { value, selected: view.plane === value }, label)))),
    h("div", { class: "columns", made: follow },
      h("svg", { class: "lines", "aria-hidden": "true", key: "lines" }),
      column("Addresses", "addresses", addresses(listeners)),
      column("Listeners", "listeners", listeners.map((listener) => listenerNode(app, listener))),
      h("div", { class: "column wide", key: "clusters" },
        h("div", { class: "pair heads" }, h("h3", { id: "column-clusters" }, "Clusters"), h("h3", { "aria-hidden": "true" }, "Endpoints")),
        h("ul", { class: "pairs", "aria-labelledby": "column-clusters" }, clusters.map((cluster) => clusterPair(app, cluster))))),
    hidden > 0 && h("p", { class: "hint" }, `${counted(hidden, "node")} not drawn. `,
      h("button", { type: "button", class: "small", on: { click: () => { view.isWhole = true; refresh(); } } }, "Draw all")));
}

function column(title, key, nodes) {
  return h("div", { class: "column", key }, h("h3", { id: `column-${key}` }, title), h("ul", { class: "nodes", "aria-labelledby": `column-${key}` }, nodes));
}

/** What is drawn, problems first; clusters in the order of the listeners that lead to them. */
function chosen(topology, view) {
  const words = view.filter.trim().toLowerCase();
  const has = (...texts) => !words || texts.some((text) => text.toLowerCase().includes(words));
  const byName = new Map(topology.clusters.map((cluster) => [cluster.name, cluster]));
  const worst = (listener) => Math.min(HEALTHS.indexOf(listener.health),
    ...listener.targets.map(({ cluster }) => byName.get(cluster)).filter(Boolean).map((cluster) => HEALTHS.indexOf(clusterHealth(cluster))));
  const named = (cluster) => cluster && has(cluster.name, ...cluster.shown.map((endpoint) => endpoint.address));
  const all = topology.listeners
    .filter((listener) => !view.plane || listener.plane === view.plane)
    .filter((listener) => has(listener.name, ...listener.addresses) || listener.targets.some(({ cluster }) => named(byName.get(cluster))))
    .map((listener, place) => ({ listener, place, worst: worst(listener) }))
    .sort((a, b) => a.worst - b.worst || a.place - b.place)
    .map(({ listener }) => listener);
  const listeners = view.isWhole ? all : all.slice(0, MOST_NODES);
  const names = new Set(listeners.flatMap((listener) => listener.targets.map(({ cluster }) => cluster)));
  if (!view.plane) {
    const led = new Set(topology.listeners.flatMap((listener) => listener.targets.map(({ cluster }) => cluster)));
    topology.clusters.filter((cluster) => !led.has(cluster.name) && named(cluster)).forEach((cluster) => names.add(cluster.name));
  }
  const found = [...names].map((name) => byName.get(name)).filter(Boolean);
  const clusters = view.isWhole ? found : found.slice(0, MOST_NODES);
  return { listeners, clusters, hidden: all.length - listeners.length + found.length - clusters.length };
}

/** The IP address of IP:PORT, IP:PORT-PORT or [IP]:PORT. */
function host(address) {
  return address.startsWith("[") ? address.slice(1, address.indexOf("]")) : address.slice(0, address.lastIndexOf(":"));
}

function addresses(listeners) {
  const byHost = new Map();
  for (const listener of listeners) {
    for (const address of listener.addresses) {
      const ports = byHost.get(host(address)) ?? [];
      ports.push(`${address.slice(address.lastIndexOf(":") + 1)}/${listener.protocol}`);
      byHost.set(host(address), ports);
    }
  }
  return [...byHost].map(([ip, ports]) => h("li", { class: "node address", key: ip, "data-node": `address ${ip}` },
    h("span", { class: "name" }, ip), h("span", { class: "figures" }, ports.slice(0, 4).join(", "), ports.length > 4 && ` and ${ports.length - 4} more`)));
}

export function listenerKey(listener) {
  return `listener ${listener.plane} ${listener.protocol} ${listener.name}`;
}

function listenerNode(app, listener) {
  const rates = app.picture.listeners.get(listener);
  const leads = listener.targets.map(({ cluster, routes }) => [cluster, routes > 0 ? ` (${counted(routes, "route")})` : ""]);
  return h("li", {
    class: "node", key: listenerKey(listener), "data-node": listenerKey(listener),
    "data-from": JSON.stringify(listener.addresses.map((address) => `address ${host(address)}`)),
    "data-to": JSON.stringify(listener.targets.map(({ cluster }) => `cluster ${cluster}`)),
    "data-state": listener.health,
    "data-rate": rates?.requests ?? rates?.packets ?? 0,
  },
    h("div", { class: "line-of" }, h("span", { class: `plane ${listener.plane}` }, listener.plane.toUpperCase()),
      h("span", { class: "name" }, listener.name), mark(listener.health)),
    h("div", { class: "line-of" }, h("span", { class: "kind" }, [listener.protocol, listener.mode].filter(Boolean).join(", ")),
      h("span", { class: "figures" }, traffic(rates, listener.plane))),
    listener.plane === "l7" && h("div", { class: "leads" },
      leads.length > 0 && ["to ", leads.slice(0, 3).map(([cluster, routes], index) => [index > 0 && ", ", h("a", { href: clusterLink(cluster) }, cluster), routes]), leads.length > 3 && ` and ${leads.length - 3} more`],
      listener.answering_routes > 0 && [leads.length > 0 && "; ", counted(listener.answering_routes, "route"), listener.answering_routes === 1 ? " answers itself" : " answer themselves"]));
}

/** What it has to do now, in words. */
export function traffic(rates, plane) {
  if (!rates) return "";
  if (plane === "l4") {
    return [`${rate(rates.packets)} pkt/s`, `${rate(rates.flows)} flows/s`, rates.drops > 0 && h("span", { class: "bad" }, `${rate(rates.drops)} drops/s`)]
      .filter(Boolean).map((part, index) => [index > 0 && " · ", part]);
  }
  return [`${rate(rates.requests)} req/s`, rates.errors > 0 && h("span", { class: "bad" }, `${rate(rates.errors)} err/s`), rates.connections != null && counted(rates.connections, "conn")]
    .filter(Boolean).map((part, index) => [index > 0 && " · ", part]);
}

/** Of both planes, those that have to do with it. */
export function trafficOfBoth(thing, rates) {
  const parts = [thing.kernel && traffic(rates, "l4"), thing.l7 && traffic(rates, "l7")].filter(Boolean);
  return parts.length > 0 ? parts.map((part, index) => [index > 0 && " · ", part]) : "no traffic yet";
}

/** The same in fewer words. */
function brief(endpoint, rates) {
  const parts = [
    endpoint.kernel && `${rate(rates?.packets)} pkt/s`,
    endpoint.l7 && `${rate(rates?.requests)} req/s`,
    rates?.errors > 0 && h("span", { class: "bad" }, `${rate(rates.errors)} err/s`),
  ].filter(Boolean);
  return parts.length > 0 ? parts.map((part, index) => [index > 0 && " · ", part]) : "no traffic yet";
}

function clusterPair(app, cluster) {
  const health = clusterHealth(cluster);
  const rest = cluster.endpoints.total - cluster.shown.length;
  const rates = app.picture.clusters.get(cluster.name);
  return h("li", { class: "pair", key: cluster.name },
    h("div", { class: "node cluster", "data-node": `cluster ${cluster.name}`, "data-to": JSON.stringify([`endpoints ${cluster.name}`]), "data-state": health, "data-rate": rates?.requests ?? rates?.packets ?? 0 },
      h("div", { class: "line-of" }, h("a", { class: "name", href: clusterLink(cluster.name) }, cluster.name), mark(health)),
      countsBar(cluster.endpoints),
      h("div", { class: "kind" }, countsText(cluster)),
      h("div", { class: "figures" }, trafficOfBoth(cluster, rates))),
    h("ul", { class: "node endpoints", "data-node": `endpoints ${cluster.name}`, "aria-label": `Endpoints of ${cluster.name}` },
      cluster.shown.map((endpoint) => endpointLine(app, cluster, endpoint)),
      (rest > 0 || cluster.shown.length === 0) && h("li", { key: "rest" }, cluster.endpoints.total === 0 ? "no endpoints"
        : h("a", { href: clusterLink(cluster.name) }, cluster.shown.length > 0 ? `and ${counted(rest, "more endpoint")}` : `all ${counted(rest, "endpoint")}`))));
}

function endpointLine(app, cluster, endpoint) {
  const state = stateOf(endpoint);
  const rates = app.picture.endpoints.get(endpointKey(cluster.name, endpoint.address));
  return h("li", { class: "endpoint", key: endpoint.address },
    shape(state), h("a", { class: "name", href: endpointLink(cluster.name, endpoint.address) }, endpoint.address),
    h("span", { class: `word ${state}` }, wordOf(state, cluster)),
    h("span", { class: "figures" }, brief(endpoint, rates)));
}

/** Lines are drawn anew whenever anything has moved. */
function follow(columns) {
  const draw = () => drawLines(columns);
  new ResizeObserver(draw).observe(columns);
  columns.addEventListener("weir-drawn", draw);
  draw();
}

function drawLines(columns) {
  const lines = columns.querySelector(".lines");
  const box = columns.getBoundingClientRect();
  const nodes = new Map([...columns.querySelectorAll("[data-node]")].map((node) => [node.dataset.node, node]));
  const paths = [];
  const join = (from, to, state, traffic) => {
    if (!from || !to) return;
    const [a, b] = [from.getBoundingClientRect(), to.getBoundingClientRect()];
    // One below the other, in a narrow window: the words say where it leads.
    if (b.left < a.right) return;
    const [x1, y1, x2, y2] = [a.right - box.left, a.top + a.height / 2 - box.top, b.left - box.left, b.top + b.height / 2 - box.top];
    const bend = (x2 - x1) / 2;
    const width = traffic > 0 ? Math.min(5, 1.25 + Math.log10(1 + traffic) * 0.8) : 1.25;
    paths.push({ d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, width, kind: `${traffic > 0 ? "busy" : "idle"} ${state}` });
  };
  for (const node of nodes.values()) {
    const { state, rate: traffic } = node.dataset;
    for (const from of JSON.parse(node.dataset.from ?? "[]")) join(nodes.get(from), node, state, Number(traffic));
    for (const to of JSON.parse(node.dataset.to ?? "[]")) join(node, nodes.get(to), nodes.get(to)?.dataset.state ?? state, Number(traffic));
  }
  lines.setAttribute("width", box.width);
  lines.setAttribute("height", box.height);
  while (lines.childNodes.length > paths.length) lines.lastChild.remove();
  paths.forEach(({ d, width, kind }, index) => {
    const path = lines.childNodes[index] ?? lines.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "path"));
    path.setAttribute("d", d);
    path.setAttribute("stroke-width", width);
    path.setAttribute("class", kind);
  });
}
