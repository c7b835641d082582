// Asks the daemon again and again, and shows what was chosen: /, a cluster, or an endpoint.

import { Refusal, ask, hasToken, setToken, store } from "./api.js";
import * as clusterView from "./cluster.js";
import { h, patch } from "./dom.js";
import * as endpointView from "./endpoint.js";
import { age, counted, moment } from "./figures.js";
import { overview } from "./overview.js";
import { endpointKey, picture, rates, remember } from "./samples.js";
import { mark } from "./states.js";

const INTERVAL_MILLISECONDS = 1000;

/** Of the time, at most this part is for answers: large ones are asked for more rarely. */
const BUSY_PART = 0.2;

const THEME = "weir-theme";

const [head, notice, main] = ["head", "notice", "main"].map((id) => document.getElementById(id));

/** All that is shown. `detail` is the answer that the view asks for beside the topology. */
const app = { now: null, before: null, picture: null, detail: null, caller: null, away: null, stranger: null, isPaused: false };

let timer;
let isAsking = false;

/** What the address says: a cluster, an endpoint of one, or neither. */
function route() {
  const [, place, cluster, address] = location.hash.slice(1).split("/").map((part) => {
    try { return decodeURIComponent(part); } catch { return part; }
  });
  return place === "clusters" && cluster ? { cluster, address: address || null } : { cluster: null, address: null };
}

function detailPath({ cluster, address }) {
  if (address) return endpointView.path(cluster, address);
  return cluster ? clusterView.path(cluster) : null;
}

/** One round of questions. */
async function turn() {
  clearTimeout(timer);
  if (isAsking) return;
  isAsking = true;
  const began = performance.now();
  const chosen = route();
  const path = detailPath(chosen);
  try {
    const [topology, caller, detail] = await Promise.all([
      ask("/topology"), ask("/caller"), path ? ask(path).catch((refusal) => { if (refusal.status === 404) return refusal; throw refusal; }) : null,
    ]);
    take(topology, caller, path, detail, chosen);
  } catch (refusal) {
    if (!(refusal instanceof Refusal)) {
      // A mistake of the page's own: it is said, and the next answer may be shown all the same.
      console.error(refusal);
    } else if (refusal.status === 401 || refusal.status === 403) {
      app.stranger = refusal;
      // What was seen belongs to whoever was signed in.
      Object.assign(app, { now: null, before: null, detail: null, caller: null });
    } else {
      app.away = refusal;
    }
  } finally {
    isAsking = false;
  }
  show();
  const took = performance.now() - began;
  if (!app.isPaused && !app.stranger) timer = setTimeout(turn, Math.max(INTERVAL_MILLISECONDS - took, took / BUSY_PART - took, 50));
  // Another view was chosen meanwhile.
  if (detailPath(route()) !== path) turn();
}

function take(topology, caller, path, detail, { cluster, address }) {
  const at = performance.now();
  Object.assign(app, { before: app.now, now: { topology, at, clock: Date.now() }, caller, away: null, stranger: null });
  app.picture = picture(app.now, app.before);
  remember("total", at, app.picture.total);
  const before = app.detail?.path === path ? app.detail.now : null;
  app.detail = path && { path, now: { answer: detail, at }, before };
  for (const [key, its] of app.picture.endpoints) {
    if (!address || key !== endpointKey(cluster, address)) remember(key, at, its);
  }
  if (address && !(detail instanceof Refusal)) {
    const key = endpointKey(cluster, address);
    const seconds = before ? (at - before.at) / 1000 : 0;
    const its = before ? null : app.picture.endpoints.get(key);
    remember(key, at, its ?? rates(detail, before?.answer, seconds, topology.latency_bounds_seconds));
  }
}

/** Draws; `refresh.now` asks first. */
function refresh() { show(); }
refresh.now = () => turn();

function show() {
  patch(head, header());
  patch(notice, notices());
  patch(main, h("div", { key: app.stranger ? "sign-in" : `view ${location.hash}`, class: "view" }, content()));
  main.querySelector(".columns")?.dispatchEvent(new CustomEvent("weir-drawn"));
  const { verdict } = app.now?.topology ?? {};
  document.title = [route().address ?? route().cluster, verdict && `${verdict.health} · Weir`].filter(Boolean).join(" · ") || "Weir";
}

function content() {
  if (app.stranger) return signIn();
  if (!app.now) return h("p", { class: "hint" }, app.away ? "Nothing has been seen yet." : "Asking the daemon …");
  const { cluster, address } = route();
  if (!cluster) return overview(app, refresh);
  if (app.detail?.path !== detailPath({ cluster, address })) return h("p", { class: "hint" }, "Asking the daemon …");
  if (app.detail.now.answer instanceof Refusal) {
    return [h("h2", {}, address ?? cluster), h("p", {}, app.detail.now.answer.text), h("p", {}, h("a", { href: "#/" }, "Back to the topology"))];
  }
  return address ? endpointView.endpoint(app, cluster, address, refresh) : clusterView.cluster(app, cluster, refresh);
}

function header() {
  const topology = app.now?.topology;
  return [
    h("h1", {}, h("a", { href: "#/" }, h("svg", { class: "logo", viewBox: "0 0 16 16", width: 20, height: 20, "aria-hidden": "true" }, h("path", { d: "M1 4h6v4h4v4h4" })), "Weir")),
    topology && h("div", { class: `verdict ${topology.verdict.health}` }, mark(topology.verdict.health), h("span", { class: "kind" }, topology.verdict.summary)),
    h("div", { class: "right" },
      topology && h("span", { class: "kind daemon" }, `${topology.version} · up ${age(app.now.clock / 1000 - topology.started_unix_seconds)} · generation ${topology.generation}`),
      app.caller && h("span", { class: "kind caller" }, app.caller.caller, app.caller.may_change ? "" : ", read only"),
      hasToken() && !app.stranger && h("button", { type: "button", class: "small", on: { click: signOut } }, "Sign out"),
      h("button", { type: "button", class: "small", "aria-pressed": String(app.isPaused), on: { click: pause } }, "Pause"),
      h("button", { type: "button", class: "small", on: { click: turnTheme } }, isDark() ? "Light" : "Dark", h("span", { class: "unseen" }, " colours"))),
  ];
}

function notices() {
  if (app.stranger) return null;
  const seen = app.now ? `; what is shown is its answer of ${moment(app.now.clock)}` : "";
  if (app.away) return h("div", { class: "message bad" }, h("p", {}, h("b", {}, `The daemon does not answer (${app.away.text})`), `${seen}. It is asked again and again.`));
  const { drain } = app.now?.topology ?? {};
  if (drain && drain.state !== "serving") {
    const step = drain.state === "notice" ? "It is not ready any more, and its listeners close" : `Its listeners are closed; ${counted(drain.connections, "connection")} may go on, and it ends`;
    return h("div", { class: "message bad" }, h("p", {}, h("b", {}, "The daemon drains. "),
      // Not spoken: it would be, every second.
      h("span", { "aria-hidden": "true" }, step, drain.seconds_left == null ? "." : ` in ${age(drain.seconds_left)}.`)));
  }
  return app.isPaused && app.now && h("div", { class: "message" }, h("p", {}, `Paused at ${moment(app.now.clock)}.`));
}

function signIn() {
  const send = (event) => {
    event.preventDefault();
    const field = document.getElementById("token");
    if (!field.value.trim()) return;
    setToken(field.value.trim());
    field.value = "";
    app.stranger = null;
    turn();
  };
  const wasWrong = hasToken();
  return h("form", { class: "sign-in", on: { submit: send } },
    h("h2", {}, "Who asks?"),
    h("p", {}, "Over TCP the admin API answers those who show a token of the config’s ", h("code", {}, "admin.tokens"), ", or a client certificate."),
    h("p", { class: "refused", role: "alert" }, wasWrong || app.stranger.status !== 401 ? app.stranger.text : null),
    h("p", { class: "field" }, h("label", { for: "token" }, "Token"), h("input", { id: "token", type: "password", autocomplete: "current-password", required: true, made: (field) => field.focus() })),
    h("p", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Show")),
    h("p", { class: "hint" }, "It is kept until this tab is closed."));
}

function signOut() {
  setToken(null);
  turn();
}

function pause() {
  app.isPaused = !app.isPaused;
  if (app.isPaused) {
    clearTimeout(timer);
    show();
  } else {
    turn();
  }
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function turnTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  store(() => localStorage.setItem(THEME, theme));
  show();
}

addEventListener("hashchange", () => {
  app.detail = null;
  show();
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
  turn();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
const kept = store(() => localStorage.getItem(THEME));
if (kept) document.documentElement.dataset.theme = kept;
show();
turn();
