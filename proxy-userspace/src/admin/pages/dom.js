// Descriptions of elements, and the one function that makes a part of the document equal to them: what stays keeps its focus,
// its selection and what was typed into it.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "rect", "circle", "line", "text", "title"]);

/** An element's description. Of its properties `key` names it among its siblings, `on` has its listeners, `initial` what an input
 * begins with, `made` is called once it is there; all others are attributes. */
export function h(tag, properties, ...children) {
  return { tag, properties: properties ?? {}, children: children.flat(Infinity).filter((child) => child != null && child !== false) };
}

/** Makes the children of an element equal to descriptions. */
export function patch(parent, wanted) {
  const list = [wanted].flat(Infinity).filter((child) => child != null && child !== false);
  const keys = new Set(list.map((description) => description.properties?.key).filter((key) => key != null).map(String));
  const keyed = new Map();
  for (const node of [...parent.childNodes]) {
    if (node.weirKey == null) continue;
    // First, so that what comes after it needn't be moved: an element that is moved loses its focus.
    if (!keys.has(node.weirKey)) node.remove();
    else keyed.set(node.weirKey, node);
  }
  let next = parent.firstChild;
  for (const description of list) {
    const key = description.properties?.key;
    let node = key != null ? keyed.get(String(key)) : next;
    if (key == null && node?.weirKey != null) node = null;
    if (node && !fits(node, description)) node = null;
    if (node) keyed.delete(node.weirKey);
    node ??= make(description);
    if (node !== next) move(parent, node, next);
    else next = next.nextSibling;
    update(node, description);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

/** To before another; what has the focus in it keeps it. */
function move(parent, node, next) {
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  parent.insertBefore(node, next);
  focused?.focus({ preventScroll: true });
}

function fits(node, description) {
  if (typeof description !== "object") return node.nodeType === Node.TEXT_NODE;
  return node.nodeType === Node.ELEMENT_NODE && node.localName === description.tag;
}

function make(description) {
  if (typeof description !== "object") return document.createTextNode(String(description));
  const { tag, properties } = description;
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (properties.key != null) node.weirKey = String(properties.key);
  if (properties.initial != null) {
    if (typeof properties.initial === "boolean") node.checked = properties.initial;
    else node.value = properties.initial;
  }
  if (properties.made) queueMicrotask(() => properties.made(node));
  return node;
}

function update(node, description) {
  if (typeof description !== "object") {
    const text = String(description);
    if (node.data !== text) node.data = text;
    return;
  }
  const { properties, children } = description;
  for (const [name, value] of Object.entries(properties)) {
    if (["key", "on", "initial", "made"].includes(name)) continue;
    const text = value === true ? "" : value === false || value == null ? null : String(value);
    if (text == null) node.removeAttribute(name);
    else if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
  for (const name of node.weirAttributes ?? []) {
    if (!(name in properties)) node.removeAttribute(name);
  }
  node.weirAttributes = Object.keys(properties);
  listen(node, properties.on ?? {});
  patch(node, children);
}

/** One listener an event, which calls what was described last. */
function listen(node, listeners) {
  node.weirListeners ??= {};
  for (const name of Object.keys(listeners)) {
    if (!(name in node.weirListeners)) {
      node.addEventListener(name, (event) => node.weirListeners[name]?.(event));
    }
  }
  for (const name of Object.keys(node.weirListeners)) {
    node.weirListeners[name] = listeners[name];
  }
  Object.assign(node.weirListeners, listeners);
}
