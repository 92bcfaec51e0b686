// Draws the map: clients, endpoints, zones, nodes, the links between them, and replication.

import { applyFault, attempt, byId, size, svg } from "./dom.js";
import { CLIENT, course, layout, replication, wire } from "./layout.js";

const WORDS = { open: "open", slow: "slow", partly: "partly cut", cut: "cut" };
const ORDER = ["open", "slow", "partly", "cut"];
const worst = (...states) => states.reduce((a, b) => (ORDER.indexOf(b) > ORDER.indexOf(a) ? b : a));
const SIGNS = { open: "", slow: "≈", partly: "◐", cut: "✕" };
const place = (name) => (name === CLIENT ? "clients" : `az-${name}`);
const DRAG = 8; // pixels from which a press is a drag

/** Return what gets through a path, in words. */
export const pathWords = ({ one, other, there, back }) => {
  if (there === back) return WORDS[there];
  const [bad, from, to] =
    ORDER.indexOf(there) > ORDER.indexOf(back) ? [there, one, other] : [back, other, one];
  return `${WORDS[bad]} from ${place(from)} to ${place(to)}`;
};

export class Map {
  /** Args: `open`, which is called with a subject that was clicked. */
  constructor(root, open) {
    this.root = root;
    this.open = open;
    this.picture = null;
    this.figures = {};
    this.drag = null;
    new ResizeObserver(() => {
      if (this.picture && Math.round(root.clientWidth) !== this.width) this.draw();
    }).observe(root);
  }

  show(picture) {
    this.picture = picture;
    this.draw();
  }

  /** Show the figures of the nodes; nothing else is drawn anew. */
  measure(figures) {
    this.figures = figures;
    if (!this.svg) return;
    for (const node of this.picture.nodes) this.measureNode(node.name);
    for (const it of this.root.querySelectorAll("[data-lag]")) {
      const lag = figures[it.dataset.lag]?.lag;
      const text = lag ? `−${size(lag)}` : "";
      if (it.textContent !== text) it.textContent = text;
    }
  }

  measureNode(name) {
    const group = this.root.querySelector(`[data-node="${name}"]`);
    if (!group) return;
    const it = this.figures[name];
    const { width } = this.places.nodes[name];
    const whole = width - 20;
    const memory = it?.memory ?? 0;
    group.querySelector(".level").setAttribute("width", Math.min(whole, (whole * memory) / 100));
    group.querySelector(".level").classList.toggle("high", memory >= 70);
    const percent = `${memory.toFixed(memory < 10 ? 1 : 0)} %`;
    const connections = it ? `${it.connections} ${it.connections === 1 ? "connection" : "connections"}` : "";
    group.querySelector(".figure.memory").textContent = it ? percent : "–";
    group.querySelector(".figure.connections").textContent = it && this.places.isNarrow ? it.connections : connections;
    group.setAttribute("aria-description", it ? `${percent} of its memory, ${connections}` : "no figures");
  }

  draw() {
    const { picture } = this;
    const width = Math.round(this.root.clientWidth);
    if (!width) return; // not laid out yet
    this.width = width;
    const focused = document.activeElement?.dataset?.key;
    const places = (this.places = layout(picture.zones, picture.nodes, this.width, picture.endpoints));
    const it = svg(
      "svg",
      {
        viewBox: `0 0 ${this.width} ${places.height}`,
        width: this.width,
        height: places.height,
        role: "group",
        "aria-label": "Map of zones, nodes, links and endpoints",
      },
      this.clients(),
      ...picture.endpoints.map((endpoint) => this.endpoint(endpoint)),
      ...picture.zones.map((zone) => this.zone(zone)),
      ...picture.paths.map((path) => this.path(path)),
      ...picture.nodes.map((node) => this.node(node)),
      ...this.replications(),
    );
    this.listen(it);
    this.root.replaceChildren(it);
    this.svg = it;
    if (this.drag?.line) it.append(this.drag.line);
    this.measure(this.figures);
    if (focused) this.root.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  button(key, label, subject, attributes, ...children) {
    return svg(
      "g",
      { ...attributes, role: "button", tabindex: 0, "data-key": key, "aria-label": label, onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        this.open(subject);
      } },
      svg("title", {}, label),
      ...children,
    );
  }

  clients() {
    const { isNarrow } = this.places;
    const { x, y, width, height, room } = this.places.clients;
    const middle = y + height / 2 + 4.5;
    return svg(
      "g",
      { class: "clients" },
      svg("rect", { x: x + 0.5, y: y + 0.5, width: width - 1, height: height - 1, rx: 10 }),
      svg("text", { x: x + (isNarrow ? 9 : 14), y: middle }, isNarrow ? "clients" : room < 320 ? "your clients" : "your clients, outside the zones"),
      room < 320 ? null : svg("text", { class: "find", x: x + room - 10, y: middle }, "find nodes at"),
    );
  }

  endpoint(endpoint) {
    const { x, y, width, height } = this.places.endpoints[endpoint.name];
    const { isNarrow } = this.places;
    const state = worst(endpoint.there, endpoint.back);
    const faults = this.faultsOf(endpoint.faults);
    const names = [...new Set(faults.map((it) => it.name))].join(", ");
    const trouble = [SIGNS[state], names].filter(Boolean).join(" ");
    const label = [`${endpoint.name}: ${WORDS[state]}`, this.told(faults)].filter(Boolean).join(", ");
    const name = isNarrow ? endpoint.name.replace("memcached", "memc.") : endpoint.name;
    const middle = y + height / 2;
    const isAbove = isNarrow && trouble;
    return this.button(
      `endpoint-${endpoint.name}`,
      label,
      { kind: "endpoint", name: endpoint.name },
      { class: `endpoint ${state}${faults.length ? " faulty" : ""}` },
      svg("rect", { class: "card", x: x + 0.75, y: y + 0.75, width: width - 1.5, height: height - 1.5, rx: 7 }),
      svg("text", { class: "name", x: x + 10, y: middle + (isAbove ? -3 : 4.5) }, name),
      isNarrow
        ? svg("text", { class: "trouble", x: x + 10, y: middle + 12 }, this.short(trouble, width - 16))
        : svg("text", { class: "trouble", x: x + width - 10, y: middle + 4.5, "text-anchor": "end" }, this.short(trouble, width - 20 - name.length * 7.2)),
    );
  }

  zone(zone) {
    const { x, y, width, height } = this.places.zones[zone.name];
    const faults = this.faultsOf(zone.faults);
    const state = zone.has_power ? "" : "no power";
    const label = [`Zone az-${zone.name}`, state, this.told(faults)].filter(Boolean).join(", ");
    // A partition is shown on the wire.
    const others = faults.filter((it) => it.name !== "partition");
    const badge = state || others.map((it) => it.name).join(", ");
    return this.button(
      `zone-${zone.name}`,
      label,
      { kind: "zone", name: zone.name },
      { class: `zone z${zone.name}${zone.has_power ? "" : " dark"}${faults.length ? " faulty" : ""}`, "data-zone": zone.name },
      svg("rect", { class: "area", x: x + 0.5, y: y + 0.5, width: width - 1, height: height - 1, rx: 12 }),
      svg("text", { class: "name", x: x + 13, y: y + 22 }, `az-${zone.name}`),
      svg("text", { class: "badge", x: x + width - 12, y: y + 22 }, this.short(badge, width - 62)),
    );
  }

  node(node) {
    const { x, y, width, height } = this.places.nodes[node.name];
    const faults = this.faultsOf(node.faults);
    const state = node.has_power ? node.state : "no power";
    const isUp = state === "running";
    const role = node.role ?? "";
    const label = [node.name, role, state, this.told(faults)].filter(Boolean).join(", ");
    const classes = ["node", node.service, role, isUp ? "up" : "down", `z${node.zone}`, faults.length ? "faulty" : ""];
    const line = [isUp ? "" : state, ...faults.map((it) => it.name)].filter(Boolean).join(" · ");
    const { isNarrow } = this.places;
    return this.button(
      `node-${node.name}`,
      label,
      { kind: "node", name: node.name },
      { class: classes.filter(Boolean).join(" "), "data-node": node.name },
      svg("rect", { class: "card", x: x + 0.75, y: y + 0.75, width: width - 1.5, height: height - 1.5, rx: 8 }),
      svg("text", { class: "name", x: x + 10, y: y + 20 }, isNarrow ? node.name.replace("memcached", "memc.") : node.name),
      role
        ? svg("text", { class: "role", x: isNarrow ? x + 10 : x + width - 10, y: y + (isNarrow ? 34 : 20), "text-anchor": isNarrow ? "start" : "end" }, role)
        : null,
      isNarrow && role // which leaves no room for words
        ? svg("text", { class: "trouble", x: x + width - 10, y: y + 20, "text-anchor": "end" }, line ? "●" : "")
        : svg("text", { class: "trouble", x: x + 10, y: y + (isNarrow ? 34 : 39) }, this.short(line, width - 16)),
      svg("rect", { class: "gauge", x: x + 10, y: y + height - 12, width: width - 20, height: 4, rx: 2 }),
      svg("rect", { class: "level", x: x + 10, y: y + height - 12, width: 0, height: 4, rx: 2 }),
      svg("text", { class: "figure memory", x: x + 10, y: y + height - 18 }),
      svg("text", { class: "figure connections", x: x + width - 10, y: y + height - 18, "text-anchor": "end" }),
    );
  }

  path(path) {
    const way = wire(this.places, path.one, path.other);
    const state = worst(path.there, path.back);
    const faults = this.faultsOf(path.faults);
    const words = pathWords(path);
    const label = [`Links between ${place(path.one)} and ${place(path.other)}: ${words}`, this.told(faults)]
      .filter(Boolean)
      .join(", ");
    const d = course(way);
    const isOneWay = path.there !== path.back;
    return this.button(
      `path-${path.one}-${path.other}`,
      label,
      { kind: "path", one: path.one, other: path.other },
      { class: `path ${state}` },
      svg("path", { class: "hit", d }),
      svg("path", { class: "line", d }),
      state === "open" ? null : this.mark(way.mid, state, isOneWay ? this.arrow(path) : "", faults),
    );
  }

  /** Return the arrow of the direction that is worse. */
  arrow({ one, other, there, back }) {
    const [from, to] = ORDER.indexOf(there) > ORDER.indexOf(back) ? [one, other] : [other, one];
    return from === CLIENT || to === CLIENT ? (from === CLIENT ? "↓" : "↑") : from < to ? "→" : "←";
  }

  mark([x, y], state, arrow, faults) {
    const names = [...new Set(faults.map((it) => it.name))].join(", ");
    const most = this.places.isNarrow ? 84 : 170;
    const text = this.short([`${SIGNS[state]}${arrow}`, names].filter(Boolean).join(" "), most);
    const width = text.length * 6.8 + 18;
    return svg(
      "g",
      { class: "mark" },
      svg("rect", { x: x - width / 2, y: y - 10, width, height: 20, rx: 10 }),
      svg("text", { x, y: y + 4 }, text),
    );
  }

  *replications() {
    const { nodes, links } = this.picture;
    const primary = nodes.find((it) => it.role === "primary");
    if (!primary) return;
    for (const replica of nodes.filter((it) => it.role === "replica")) {
      const link = links.find((it) => it.source === replica.zone && it.target === primary.name && it.service === "redis");
      const isUp = [primary, replica].every((it) => it.has_power && it.state === "running");
      const state = isUp ? (link ? worst(link.there, link.back) : "open") : "away";
      const { d, tip, mid } = replication(this.places, primary.name, replica.name);
      const [x, y, way] = tip;
      const arrow = way ? `M${x},${y} l${-7 * way},-4 v8 z` : `M${x},${y} l-4,7 h8 z`;
      yield svg(
        "g",
        { class: `replication z${primary.zone} ${state}`, "aria-hidden": "true" },
        svg("path", { class: "line", d }),
        svg("path", { class: "tip", d: arrow }),
        way ? null : svg("text", { x: mid[0], y: mid[1] - 5, class: "lag", "data-lag": replica.name }),
        way && !this.places.isNarrow ? svg("text", { x: mid[0], y: mid[1] - 7, class: "lag", "data-lag": replica.name }) : null,
      );
    }
  }

  faultsOf(ids) {
    return ids.flatMap((id) => this.picture.faults.filter((it) => it.id === id));
  }

  told(faults) {
    return faults.length ? `faults: ${faults.map((it) => it.kind).join(", ")}` : "";
  }

  short(text, width) {
    const most = Math.max(3, Math.floor(width / 6.2));
    return text.length > most ? `${text.slice(0, most - 1)}…` : text;
  }

  // --- the pointer ------------------------------------------------------------------------------

  listen(root) {
    root.addEventListener("pointerdown", (event) => {
      this.undrag();
      const zone = event.target.closest("[data-zone]");
      if (!zone || event.button) return;
      this.drag = { zone: zone.dataset.zone, at: this.point(event), line: null };
      root.setPointerCapture(event.pointerId);
    });
    root.addEventListener("pointermove", (event) => this.dragged(event));
    root.addEventListener("pointerup", (event) => this.dropped(event));
    root.addEventListener("pointercancel", () => this.undrag());
    root.addEventListener("click", (event) => {
      const subject = this.subject(event);
      if (subject) this.open(subject);
    });
  }

  /**
   * Return what was clicked. A captured pointer tells the map itself, so look by place; the click of
   * a screen reader has none.
   */
  subject(event) {
    const at = event.target.closest("[data-key]") ?? document.elementFromPoint(event.clientX, event.clientY);
    const it = at?.closest("[data-key]");
    if (!it || this.justDragged) return (this.justDragged = null);
    const [kind, one, other] = it.dataset.key.split(/-(.*)/s);
    if (kind === "path") {
      const [from, to] = one.split("-");
      return { kind, one: from, other: to };
    }
    return { kind, name: one, other };
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  zoneAt([x, y]) {
    return Object.entries(this.places.zones).find(
      ([, it]) => x >= it.x && x <= it.x + it.width && y >= it.y && y <= it.y + it.height,
    )?.[0];
  }

  dragged(event) {
    if (!this.drag) return;
    if (!event.buttons) return this.undrag(); // it was released outside, after the map was drawn anew
    const [x, y] = this.point(event);
    const [x0, y0] = this.drag.at;
    if (!this.drag.line) {
      if (Math.hypot(x - x0, y - y0) < DRAG) return;
      this.drag.line = svg("path", { class: "drawn" });
      this.svg.append(this.drag.line);
      this.svg.classList.add("drawing");
    }
    this.drag.line.setAttribute("d", `M${x0},${y0} L${x},${y}`);
    const over = this.zoneAt([x, y]);
    for (const it of this.svg.querySelectorAll("[data-zone]")) {
      it.classList.toggle("aim", it.dataset.zone === over || it.dataset.zone === this.drag.zone);
    }
  }

  dropped(event) {
    const { drag } = this;
    if (!drag?.line) {
      this.drag = null;
      return;
    }
    const over = this.zoneAt(this.point(event));
    this.undrag();
    this.justDragged = true;
    setTimeout(() => (this.justDragged = null));
    if (!over || over === drag.zone) return;
    const fault = { fault: "partition", a: drag.zone, b: over };
    if (event.shiftKey) fault.one_way = true;
    attempt(() => applyFault(fault));
  }

  undrag() {
    this.drag?.line?.remove();
    this.svg?.classList.remove("drawing");
    for (const it of this.svg?.querySelectorAll(".aim") ?? []) it.classList.remove("aim");
    this.drag = null;
  }
}

/** Show which place reaches which zone, as a table. */
export const showReach = (picture) => {
  const rows = [
    [CLIENT, picture.clients],
    ...picture.zones.map((zone) => [zone.name, zone.reach]),
  ];
  const names = picture.zones.map((zone) => zone.name);
  const cell = (tag, text, attributes = {}) => {
    const it = document.createElement(tag);
    it.textContent = text;
    for (const [name, value] of Object.entries(attributes)) it.setAttribute(name, value);
    return it;
  };
  const row = (...cells) => {
    const it = document.createElement("tr");
    it.append(...cells);
    return it;
  };
  byId("reach").replaceChildren(
    row(cell("td", ""), ...names.map((it) => cell("th", `az-${it}`, { scope: "col" }))),
    ...rows.map(([from, reach]) =>
      row(
        cell("th", place(from), { scope: "row" }),
        ...names.map((it) => cell("td", WORDS[reach[it]], { class: `state ${reach[it]}` })),
      ),
    ),
  );
};
