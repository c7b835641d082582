// A cluster: its endpoints as a table that ten thousand fit in.

import { clusterPath } from "./api.js";
import { controls, readOnly } from "./change.js";
import { h } from "./dom.js";
import { counted, latency, rate } from "./figures.js";
import { rates } from "./samples.js";
import { STATES, countsBar, countsText, mark, stateOf, wordOf } from "./states.js";
import { endpointLink, trafficOfBoth } from "./topology.js";

/** Rows of a page. */
const ROWS = 50;

const views = new Map();

export function path(name) {
  return clusterPath(name);
}

export function cluster(app, name, refresh) {
  const view = views.get(name) ?? { filter: "", state: "", page: 0 };
  views.set(name, view);
  const { now, before } = app.detail;
  const summary = app.now.topology.clusters.find((one) => one.name === name);
  const rows = found(now.answer, view);
  const pages = Math.max(1, Math.ceil(rows.length / ROWS));
  view.page = Math.min(view.page, pages - 1);
  const change = (part) => { Object.assign(view, { page: 0 }, part); refresh(); };
  return [
    h("nav", { "aria-label": "Where this is", class: "crumbs" }, h("a", { href: "#/" }, "Topology"), " › ", h("span", { "aria-current": "page" }, name)),
    h("h2", {}, `Cluster ${name}`),
    summary && h("div", { class: "summary" }, countsBar(summary.endpoints), h("p", {}, `${countsText(summary)} · `, trafficOfBoth(summary, app.picture.clusters.get(name)))),
    h("p", { class: "hint" }, about(now.answer)),
    readOnly(app.caller),
    h("div", { class: "bar-of-tools" },
      h("label", { class: "unseen", for: "endpoints-filter" }, "Filter endpoints"),
      h("input", { id: "endpoints-filter", type: "search", placeholder: "Filter endpoints", initial: view.filter, on: { input: (event) => change({ filter: event.target.value }) } }),
      h("label", { class: "unseen", for: "endpoints-state" }, "States shown"),
      h("select", { id: "endpoints-state", on: { change: (event) => change({ state: event.target.value }) } },
        h("option", { value: "", selected: view.state === "" }, "Any state"), STATES.map((state) => h("option", { value: state, selected: view.state === state }, state))),
      h("span", { class: "grow" }, counted(rows.length, "endpoint")),
      pages > 1 && h("div", { class: "pager" },
        h("button", { type: "button", class: "small", disabled: view.page === 0, on: { click: () => change({ page: view.page - 1 }) } }, "Previous"),
        h("span", {}, `Page ${view.page + 1} of ${pages}`),
        h("button", { type: "button", class: "small", disabled: view.page === pages - 1, on: { click: () => change({ page: view.page + 1 }) } }, "Next"))),
    table(app, now, before, rows.slice(view.page * ROWS, (view.page + 1) * ROWS), refresh),
  ];
}

function about(cluster) {
  const check = cluster.health_check;
  const parts = [
    check ? `checked by ${check.kind} every ${check.interval_seconds} s` : "not checked: endpoints are taken for healthy",
    `L7 requests by ${cluster.policy}, ${cluster.protocol}${cluster.tls_verify ? " over TLS" : ""}`,
    cluster.names.length > 0 && `resolved from ${cluster.names.join(", ")}`,
  ];
  return parts.filter(Boolean).join("; ");
}

/** Those that are looked for; what needs a look first, else in config order. */
function found(cluster, view) {
  const words = view.filter.trim().toLowerCase();
  const matches = (endpoint) => (!words || `${endpoint.address} ${endpoint.name ?? ""}`.toLowerCase().includes(words)) && (!view.state || stateOf(endpoint) === view.state);
  const place = (endpoint) => Math.min(2, STATES.indexOf(stateOf(endpoint)));
  return cluster.endpoints.filter(matches).sort((a, b) => place(a) - place(b));
}

function table(app, now, before, rows, refresh) {
  const earlier = new Map((before?.answer.endpoints ?? []).map((endpoint) => [endpoint.address, endpoint]));
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const planes = { l4: now.answer.endpoints.some((it) => it.kernel), l7: now.answer.endpoints.some((it) => it.l7) };
  const columns = [
    ["Weight"], ["Share"],
    planes.l7 && ["Req/s", "requests", rate], planes.l7 && ["Errors/s", "errors", rate], planes.l7 && ["Mean", "mean", latency], planes.l7 && ["Active", "active", (it) => it ?? "–"],
    planes.l4 && ["Packets/s", "packets", rate], planes.l4 && ["Flows/s", "flows", rate],
  ].filter(Boolean);
  const row = (endpoint) => {
    const its = rates(endpoint, earlier.get(endpoint.address), seconds, app.now.topology.latency_bounds_seconds);
    return h("tr", { key: endpoint.address },
      h("th", { scope: "row" }, h("a", { href: endpointLink(now.answer.name, endpoint.address) }, endpoint.address), endpoint.name && h("span", { class: "kind" }, ` ${endpoint.name}`)),
      h("td", {}, mark(stateOf(endpoint), wordOf(stateOf(endpoint), now.answer))),
      h("td", { class: "number" }, endpoint.weight === endpoint.effective_weight ? endpoint.weight : `${endpoint.effective_weight} of ${endpoint.weight}`),
      h("td", { class: "number" }, `${endpoint.share_percent.toFixed(1)} %`),
      columns.slice(2).map(([, name, show]) => h("td", { class: name === "errors" && its.errors > 0 ? "number bad" : "number" }, show(its[name]))),
      h("td", { class: "buttons" }, controls(app.caller, now.answer.name, endpoint, refresh.now)));
  };
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of endpoints" }, h("table", {},
    h("caption", { class: "unseen" }, `Endpoints of cluster ${now.answer.name}`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Endpoint"), h("th", { scope: "col" }, "State"),
      columns.map(([title]) => h("th", { scope: "col", class: "number" }, title)), h("th", { scope: "col" }, "Change"))),
    h("tbody", {}, rows.map(row))));
}
