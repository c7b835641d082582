// The first view: what is wrong, what happens now, and what goes where.

import { spark } from "./charts.js";
import { h } from "./dom.js";
import { bits, count, rate } from "./figures.js";
import { past } from "./samples.js";
import { mark } from "./states.js";
import { topology } from "./topology.js";

/** Findings that are shown at once. */
const MOST_FINDINGS = 5;

const view = { filter: "", plane: "", isWhole: false };

export function overview(app, refresh) {
  return [findings(app.now.topology.verdict), totals(app), topology(app, view, refresh)];
}

function findings({ findings }) {
  if (findings.length === 0) return null;
  const item = ({ weight, what, remedy }) => h("li", { key: what }, mark(weight),
    h("span", {}, h("span", { class: "what" }, what), remedy && [" ", h("span", { class: "remedy" }, remedy)]));
  const isSerious = findings.some(({ weight }) => weight !== "note");
  return h("section", { "aria-labelledby": "findings-title", class: "findings", key: "findings" },
    h("h2", { id: "findings-title" }, isSerious ? "Needs attention" : "Worth knowing"),
    h("ul", {}, findings.slice(0, MOST_FINDINGS).map(item)),
    findings.length > MOST_FINDINGS && h("details", {}, h("summary", {}, `${findings.length - MOST_FINDINGS} more`), h("ul", {}, findings.slice(MOST_FINDINGS).map(item))));
}

function totals({ picture, now }) {
  const { total } = picture;
  const points = past("total");
  const has = (plane) => now.topology.listeners.some((listener) => listener.plane === plane);
  const tile = (plane, title, name, value, isBad) => h("li", { key: title, class: isBad ? "tile bad" : "tile" },
    h("span", { class: "title" }, h("span", { class: `plane ${plane}` }, plane.toUpperCase()), ` ${title}`),
    h("div", { class: "value" }, h("b", {}, value), spark(points, name)));
  return h("section", { "aria-labelledby": "totals-title", key: "totals" },
    h("h2", { id: "totals-title", class: "unseen" }, "Now, a second"),
    h("ul", { class: "tiles" },
      has("l7") && [
        tile("l7", "requests/s", "requests", rate(total.requests)),
        tile("l7", "errors/s", "errors", rate(total.errors), total.errors > 0),
        tile("l7", "connections", "connections", count(total.connections)),
      ],
      has("l4") && [
        tile("l4", "packets/s", "packets", rate(total.packets)),
        tile("l4", "throughput", "bytes", bits(total.bytes)),
        tile("l4", "new flows/s", "flows", rate(total.flows)),
        tile("l4", "drops/s", "drops", rate(total.drops), total.drops > 0),
      ]));
}
