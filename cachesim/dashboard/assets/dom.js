// Makes elements, and calls the server.

const SVG = "http://www.w3.org/2000/svg";

const fill = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((it) => it != null && it !== false));
  return element;
};

/** Return an element of HTML. Attributes that begin with `on` are listeners. */
export const html = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

/** Return an element of SVG. */
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

export const byId = (id) => document.getElementById(id);

/** Call the server. Returns its answer; raises an Error with its message. */
export const call = async (method, path, body) => {
  let response;
  try {
    response = await fetch(`/api/${path}`, {
      method,
      headers: body ? { "content-type": "application/json" } : {},
      body: body && JSON.stringify(body),
    });
  } catch {
    throw new Error("The dashboard does not answer. Has it ended?");
  }
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  const found = isJson ? await response.json() : { error: await response.text() };
  if (!response.ok) throw new Error(found.error || response.statusText);
  return found;
};

/** Tell something for a few seconds, with a button if there is something to do. */
export const toast = (text, { isError = false, action, act } = {}) => {
  const it = html("div", { class: isError ? "toast error" : "toast" }, html("span", {}, text));
  const leave = () => it.remove();
  if (action) {
    it.append(
      html("button", { type: "button", onclick: () => (leave(), act()) }, action),
    );
  }
  byId("toasts").append(it);
  setTimeout(leave, isError ? 9000 : 6000);
};

/** Do something on the server, and tell if it fails. Returns whether it was done. */
export const attempt = async (act) => {
  try {
    await act();
    return true;
  } catch (error) {
    toast(error.message, { isError: true });
    return false;
  }
};

/** Return a number of bytes for people. */
export const size = (count) => {
  for (const unit of ["B", "kB", "MB"]) {
    if (count < 1000) return `${unit === "B" ? count : count.toFixed(1)} ${unit}`;
    count /= 1000;
  }
  return `${count.toFixed(1)} GB`;
};

/** Return a time of day. */
export const clock = (seconds) =>
  new Date(seconds * 1000).toLocaleTimeString("en-GB", { hour12: false });

/** Apply a fault, and offer to heal it. */
export const applyFault = async (fault, times = {}) => {
  const it = await call("POST", "faults", { fault, ...times });
  toast(`Applied: ${it.kind} on ${it.target}`, {
    action: "Heal",
    act: () => attempt(() => healFault(it.id)),
  });
};

export const healFault = (id) => call("DELETE", `faults/${id}`);
