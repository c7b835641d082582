// An endpoint: what it does, what it did since the page was opened, and when its health changed.

import { endpointPath } from "./api.js";
import { chart } from "./charts.js";
import { controls, readOnly } from "./change.js";
import { h } from "./dom.js";
import { age, bits, count, latency, moment, rate } from "./figures.js";
import { endpointKey, past } from "./samples.js";
import { mark, stateOf } from "./states.js";
import { clusterLink } from "./topology.js";

export function path(cluster, address) {
  return endpointPath(cluster, address);
}

export function endpoint(app, cluster, address, refresh) {
  const one = app.detail.now.answer;
  return [
    h("nav", { "aria-label": "Where this is", class: "crumbs" }, h("a", { href: "#/" }, "Topology"), " › ",
      h("a", { href: clusterLink(cluster) }, cluster), " › ", h("span", { "aria-current": "page" }, address)),
    h("div", { class: "title-line" }, h("h2", {}, `Endpoint ${address}`), mark(stateOf(one)),
      h("div", { class: "buttons" }, controls(app.caller, cluster, one, refresh.now))),
    readOnly(app.caller),
    facts(one),
    charts(one, past(endpointKey(cluster, address))),
    history(one),
  ];
}

function facts(one) {
  const fact = (title, ...value) => h("div", {}, h("dt", {}, title), h("dd", {}, value));
  const configured = one.configured;
  return h("dl", { class: "facts" },
    fact("Weight in force", h("b", {}, one.effective_weight), ` ${one.why.replace(/^\d+ /, "")}`),
    fact("Share of its cluster", `${one.share_percent.toFixed(1)} %`),
    configured && fact("The config says", `weight ${configured.weight}${configured.drain ? ", draining" : ""}${one.durable ? "; the change is durable" : "; the change ends with the next start"}`),
    one.name && fact("Resolved from", one.name),
    one.last_error && fact("Last failed probe", one.last_error),
    one.kernel && fact("Kernel, ever", `${count(one.kernel.packets)} packets, ${count(one.kernel.flows)} flows, ${count(one.kernel.drops)} drops`),
    one.l7 && fact("L7, since the start", `${count(one.l7.requests)} requests, ${count(one.l7.responses[4])} of 5xx, ${count(one.l7.failures)} without response, ${count(one.l7.connect_failures)} failures to connect`));
}

function charts(one, points) {
  const main = (name, label) => ({ name, label, kind: "main" });
  const other = (name, label, kind = "other") => ({ name, label, kind });
  const drawn = [
    one.l7 && chart("Requests a second", points, [main("requests", "requests"), other("errors", "errors", "error")], rate),
    one.l7 && chart("Latency", points, [main("mean", "mean"), other("p99", "p99, at most")], latency),
    one.l7 && chart("At a time", points, [main("active", "requests"), other("connections", "connections")], (value) => (value == null ? "–" : String(Math.round(value * 10) / 10))),
    one.kernel && chart("Packets a second", points, [main("packets", "from clients"), other("replies", "replies")], rate),
    one.kernel && chart("New flows a second", points, [main("flows", "flows"), other("drops", "drops", "error")], rate),
    one.kernel && chart("Throughput", points, [main("bytes", "both ways")], bits),
  ].filter(Boolean);
  return h("section", { "aria-labelledby": "charts-title" }, h("h3", { id: "charts-title" }, "Since this page was opened, ten minutes at most"),
    drawn.length > 0 ? h("div", { class: "charts" }, drawn) : h("p", { class: "hint" }, "No plane has counted anything of it yet."));
}

function history(one) {
  const changes = [...(one.history ?? [])].reverse();
  return h("section", { "aria-labelledby": "history-title" }, h("h3", { id: "history-title" }, "Health"),
    changes.length === 0 ? h("p", { class: "hint" }, one.health === "unknown" ? "It has no verdict: its cluster has no health check, or the first one isn't over." : "It has not changed since the daemon started.")
      : h("div", { class: "scroll history" }, h("table", {}, h("caption", { class: "unseen" }, "Changes of its health, the last first"),
        h("thead", {}, h("tr", {}, ["When", "State", "Why"].map((title) => h("th", { scope: "col" }, title)))),
        h("tbody", {}, changes.map(({ at_unix_seconds: at, health, why }, index) => h("tr", { key: `${at} ${changes.length - index}` },
          h("td", { class: "number-left" }, moment(at * 1000), h("span", { class: "kind" }, ` ${age(Date.now() / 1000 - at)} ago`)), h("td", {}, mark(health)), h("td", {}, why ?? "its check passes again")))))));
}
