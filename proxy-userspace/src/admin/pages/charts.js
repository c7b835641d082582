// Small line charts of a past, each with the same in words.

import { h } from "./dom.js";
import { age } from "./figures.js";

const WIDTH = 400;
const HEIGHT = 132;
const LEFT = 60;
const TOP = 8;
const BOTTOM = 20;

/** A past shorter than this is drawn at the same scale, from the right. */
const LEAST_SPAN_MILLISECONDS = 60_000;

/** A round number at or above. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

function line(points, name, x, y) {
  let path = "";
  let isOpen = false;
  for (const point of points) {
    if (point[name] == null) {
      isOpen = false;
    } else {
      path += `${isOpen ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point[name]).toFixed(1)}`;
      isOpen = true;
    }
  }
  return path;
}

/** Lines is a list of {name, label, kind}; show writes a value. */
export function chart(title, points, lines, show) {
  const last = points.at(-1)?.at ?? 0;
  const span = Math.max(LEAST_SPAN_MILLISECONDS, last - (points[0]?.at ?? 0));
  const values = lines.flatMap(({ name }) => points.map((point) => point[name]).filter((value) => value != null));
  const top = ceiling(Math.max(0, ...values));
  const x = (at) => LEFT + (1 - (last - at) / span) * (WIDTH - LEFT - 6);
  const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
  const grid = [0, 0.5, 1].map((part) => [
    h("line", { class: "grid", x1: LEFT, x2: WIDTH - 6, y1: y(part * top), y2: y(part * top) }),
    h("text", { class: "tick", x: LEFT - 6, y: y(part * top) + 4, "text-anchor": "end" }, show(part * top).replace(/\.0(?!\d)/, "")),
  ]);
  const paths = lines.map(({ name, kind }) => h("path", { class: `line ${kind}`, d: line(points, name, x, y) }));
  const times = [
    h("text", { class: "tick", x: LEFT, y: HEIGHT - 4 }, `${age(span / 1000)} ago`),
    h("text", { class: "tick", x: WIDTH - 6, y: HEIGHT - 4, "text-anchor": "end" }, "now"),
  ];
  return h("figure", { class: "chart", key: title },
    h("figcaption", {}, h("span", { class: "title" }, title), lines.map((each) => legend(each, points, show))),
    h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": described(title, points, lines, show) }, grid, times, paths));
}

function legend({ name, label, kind }, points, show) {
  return h("span", { class: "legend" },
    h("svg", { class: "key", viewBox: "0 0 16 8", width: 16, height: 8, "aria-hidden": "true" }, h("path", { class: `line ${kind}`, d: "M0 4H16" })),
    h("span", {}, label), h("b", {}, show(points.at(-1)?.[name])));
}

function described(title, points, lines, show) {
  const parts = lines.map(({ name, label }) => {
    const values = points.map((point) => point[name]).filter((value) => value != null);
    if (values.length === 0) return `${label}: nothing yet`;
    return `${label}: now ${show(values.at(-1))}, least ${show(Math.min(...values))}, most ${show(Math.max(...values))}`;
  });
  const span = points.length > 1 ? age((points.at(-1).at - points[0].at) / 1000) : "0s";
  return `${title}, over the last ${span}. ${parts.join(". ")}.`;
}

/** A line without axes, for a tile; what it shows stands beside it in words. */
export function spark(points, name) {
  const recent = points.filter((point) => point[name] != null).slice(-90);
  const top = Math.max(0, ...recent.map((point) => point[name])) || 1;
  const x = (index) => (index + 90 - recent.length) * (120 / 89);
  const path = recent.map((point, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${(25 - (point[name] / top) * 23).toFixed(1)}`).join("");
  return h("svg", { class: "spark", viewBox: "0 0 120 27", preserveAspectRatio: "none", "aria-hidden": "true" }, h("path", { class: "line main", d: path }));
}
