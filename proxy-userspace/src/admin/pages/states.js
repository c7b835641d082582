// States as a word, a shape and a colour: never as a colour alone.

import { h } from "./dom.js";
import { count } from "./figures.js";

/** By how much they need a look. */
export const STATES = ["unhealthy", "draining", "unknown", "healthy"];

const SHAPES = {
  healthy: [h("circle", { cx: 6, cy: 6, r: 4.5, class: "fill" })],
  unknown: [h("circle", { cx: 6, cy: 6, r: 3.75, class: "stroke" })],
  note: [h("circle", { cx: 6, cy: 6, r: 3.75, class: "stroke" }), h("path", { d: "M6 5.5V8", class: "stroke" })],
  draining: [h("circle", { cx: 6, cy: 6, r: 3.75, class: "stroke" }), h("path", { d: "M6 2.25A3.75 3.75 0 0 0 6 9.75Z", class: "fill" })],
  degraded: [h("path", { d: "M6 1 11.2 10.5H.8Z", class: "fill" })],
  unhealthy: [h("path", { d: "M2 2 10 10M10 2 2 10", class: "stroke heavy" })],
  failing: [h("path", { d: "M2 2 10 10M10 2 2 10", class: "stroke heavy" })],
};

/** The shape alone, for beside a word. */
export function shape(state) {
  return h("svg", { class: `shape ${state}`, viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, SHAPES[state] ?? SHAPES.unknown);
}

/** Shape and word. */
export function mark(state, word = state) {
  return h("span", { class: `mark ${state}` }, shape(state), h("span", {}, word));
}

/** A state's word for an endpoint of a cluster. */
export function wordOf(state, { health_check: check }) {
  return state === "unknown" && check == null ? "not checked" : state;
}

/** An endpoint's state in one word; unhealthy goes before draining. */
export function stateOf(endpoint) {
  if (endpoint.health === "unhealthy") return "unhealthy";
  if (endpoint.drain) return "draining";
  return endpoint.health === "healthy" ? "healthy" : "unknown";
}

/** A cluster's own health, as far as its endpoints go. */
export function clusterHealth(cluster) {
  if (cluster.effective_weight === 0) return "failing";
  return cluster.endpoints.unhealthy > 0 ? "degraded" : "healthy";
}

/** 96 healthy, 3 unhealthy, 1 draining. */
export function countsText(cluster) {
  const { endpoints } = cluster;
  const parts = ["healthy", "unknown", "unhealthy", "draining"].filter((state) => endpoints[state] > 0);
  return parts.map((state) => `${count(endpoints[state])} ${wordOf(state, cluster)}`).join(", ") || "no endpoints";
}

/** The same as a bar. What there is one of among thousands is still seen. */
export function countsBar(endpoints) {
  const present = ["healthy", "unknown", "draining", "unhealthy"].filter((state) => endpoints[state] > 0);
  const least = 4;
  const share = (state) => Math.max(least, (endpoints[state] / endpoints.total) * 200);
  const whole = present.reduce((total, state) => total + share(state), 0);
  let at = 0;
  const parts = present.map((state) => {
    const width = (share(state) / whole) * 200;
    const part = h("rect", { x: at, y: 0, width: Math.max(0, width - 1), height: 6, class: `part ${state}` });
    at += width;
    return part;
  });
  return h("svg", { class: "bar", viewBox: "0 0 200 6", preserveAspectRatio: "none", "aria-hidden": "true" }, parts);
}
