// Changes of endpoints: asked for in a dialog, and what became of them said aloud.

import { ask, endpointPath } from "./api.js";
import { h, patch } from "./dom.js";
import { counted } from "./figures.js";

const dialog = document.getElementById("dialog");
const outcome = document.getElementById("outcome");

const OUTCOME_MILLISECONDS = 20_000;
let clearing;

/** Asks whether an endpoint is to drain, or to get flows again. */
export function askDrain(cluster, endpoint, done) {
  const drain = !endpoint.drain;
  const words = drain
    ? ["Drain", "It keeps the flows and connections that it has and gets no new ones.", `${endpoint.address} drains`]
    : ["Undrain", "It gets new flows and requests again.", `${endpoint.address} no longer drains`];
  open(cluster, endpoint, words, { drain }, null, done);
}

/** Asks for an endpoint's weight. */
export function askWeight(cluster, endpoint, done) {
  const words = ["Set weight of", "Its share of new flows and requests, relative to the others of its cluster; 0 for none.", `The weight of ${endpoint.address} is set`];
  const field = h("p", { class: "field" },
    h("label", { for: "dialog-weight" }, "Weight"),
    h("input", { id: "dialog-weight", type: "number", min: 0, max: 65535, step: 1, required: true, initial: endpoint.weight }));
  open(cluster, endpoint, words, null, field, done);
}

function open(cluster, endpoint, [verb, meaning, said], change, field, done) {
  const send = async (event) => {
    event.preventDefault();
    const body = change ?? { weight: Number(dialog.querySelector("#dialog-weight").value) };
    if (dialog.querySelector("#dialog-durable").checked) body.durable = true;
    const buttons = dialog.querySelectorAll("button");
    buttons.forEach((button) => { button.disabled = true; });
    try {
      const answer = await ask(endpointPath(cluster, endpoint.address), "PATCH", body);
      dialog.close();
      succeeded(`${said}: ${answer.changes.length ? `generation ${answer.generation}` : "nothing had to change"}`, answer.warnings);
      done();
    } catch (refusal) {
      buttons.forEach((button) => { button.disabled = false; });
      patch(dialog.querySelector(".refused"), refusal.text);
    }
  };
  // Made anew each time: nothing of the last one is left in it.
  patch(dialog, []);
  patch(dialog, h("form", { on: { submit: send } },
    h("h2", { id: "dialog-title" }, `${verb} ${endpoint.address}?`),
    h("p", {}, `In cluster ${cluster}. ${meaning}`),
    field,
    h("p", { class: "field check" },
      h("input", { id: "dialog-durable", type: "checkbox", initial: endpoint.durable }),
      h("label", { for: "dialog-durable" }, "Keep it beyond the daemon’s next start (durable)")),
    h("p", { class: "refused", role: "alert" }),
    h("p", { class: "buttons" },
      h("button", { type: "submit", class: "primary" }, verb.split(" ")[0]),
      h("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel"))));
  dialog.showModal();
}

/** Said by screen readers, and seen for a while. */
function succeeded(text, warnings) {
  clearTimeout(clearing);
  patch(outcome, h("div", { class: "message good" }, h("p", {}, h("b", {}, `${text}.`)),
    warnings.length > 0 && h("details", {}, h("summary", {}, counted(warnings.length, "warning")), h("ul", {}, warnings.map((warning) => h("li", {}, warning))))));
  clearing = setTimeout(() => patch(outcome, []), OUTCOME_MILLISECONDS);
}

/** The buttons of an endpoint, or why there are none. */
export function controls(caller, cluster, endpoint, done) {
  if (!caller?.may_change) return null;
  return [
    h("button", { type: "button", class: "small", on: { click: () => askDrain(cluster, endpoint, done) } },
      endpoint.drain ? "Undrain" : "Drain", h("span", { class: "unseen" }, ` ${endpoint.address}`)),
    h("button", { type: "button", class: "small", on: { click: () => askWeight(cluster, endpoint, done) } },
      "Weight", h("span", { class: "unseen" }, ` of ${endpoint.address}`)),
  ];
}

/** Why nothing can be changed from here. */
export function readOnly(caller) {
  if (!caller || caller.may_change) return null;
  return h("p", { class: "hint" }, `Nothing can be changed from here: ${caller.caller} may read only. Sign in with a token without read_only.`);
}
