// The head of the page, the active faults and the events.

import { attempt, byId, clock, healFault, html } from "./dom.js";

const KEPT = 300; // events that the page shows

/** Show what runs, and its state. */
export const showHead = (picture) => {
  document.title = `${picture.name}: ${picture.shard}`;
  byId("name").textContent = picture.name;
  const shard = byId("shard");
  shard.textContent = picture.shard;
  shard.className = `pill ${picture.shard === "available" ? "good" : "bad"}`;
  const about = [picture.engine, picture.backend, `speed ${picture.speed}`, `seed ${picture.seed}`];
  byId("about").textContent = about.join(" · ");
  const notice = byId("notice");
  notice.hidden = !picture.leased_by;
  if (picture.leased_by) {
    notice.textContent = `${picture.leased_by} has the lease: until it ends, this page only looks.`;
  }
  for (const it of document.querySelectorAll(".tools button")) it.disabled = Boolean(picture.leased_by);
};

const left = (it) => {
  const seconds = Math.max(0, Math.ceil(it.until - performance.now() / 1000));
  return `, heals in ${seconds >= 60 ? `${Math.floor(seconds / 60)} min ` : ""}${seconds % 60} s`;
};

/** The active faults, each with the time that is left and a button that heals it. */
export class FaultList {
  constructor() {
    this.ends = new globalThis.Map();
  }

  show(picture) {
    const now = performance.now() / 1000;
    const items = picture.faults.map((it) => {
      if (it.seconds != null) this.ends.set(it.id, now + it.seconds);
      return { ...it, until: this.ends.get(it.id) };
    });
    for (const id of this.ends.keys()) {
      if (!items.some((it) => it.id === id)) this.ends.delete(id);
    }
    const list = byId("faults");
    const focused = document.activeElement?.dataset?.fault;
    list.replaceChildren(
      ...(items.length
        ? items.map((it) => this.item(it, Boolean(picture.leased_by)))
        : [html("li", { class: "none" }, "None. All is well.")]),
    );
    if (focused) (list.querySelector(`[data-fault="${focused}"]`) ?? byId("heal")).focus();
    this.items = items;
    this.tick();
  }

  item(it, isLeased) {
    return html(
      "li",
      {},
      html(
        "div",
        {},
        html("b", {}, it.kind),
        html("span", { class: "on" }, it.target, html("span", { "data-left": it.id })),
      ),
      html(
        "button",
        {
          type: "button",
          disabled: isLeased,
          "data-fault": it.id,
          "aria-label": `Heal ${it.kind} on ${it.target}`,
          onclick: () => attempt(() => healFault(it.id)),
        },
        "Heal",
      ),
    );
  }

  /** Show the time that is left. */
  tick() {
    for (const it of this.items ?? []) {
      if (it.until == null) continue;
      const place = byId("faults").querySelector(`[data-left="${it.id}"]`);
      if (place) place.textContent = left(it);
    }
  }
}

const TONES = {
  fault: "bad", "power-cut": "bad", detecting: "bad", error: "bad", promoting: "warn", role: "warn",
  recovering: "warn", failover: "good", heal: "good", recovered: "good", available: "good",
};

/** The latest events, the newest first. */
export class EventList {
  constructor() {
    this.last = 0;
  }

  add(events) {
    const list = byId("events");
    for (const it of events) {
      if (it.number <= this.last) continue;
      this.last = it.number;
      // The reasons of alarms are long; they are with the alarms.
      const text = it.kind === "alarm" ? it.message.split(":")[0] : it.message;
      const tone = it.kind === "alarm" ? (text.endsWith("ALARM") ? "bad" : "") : TONES[it.kind];
      list.prepend(
        html(
          "li",
          { class: tone ?? "", "data-kind": it.kind, "data-at": it.at },
          html("time", {}, clock(it.at)),
          html("span", { class: "kind" }, it.kind),
          html("span", { class: "text", title: it.message }, html("b", {}, it.source), ` ${text}`),
        ),
      );
    }
    while (list.childElementCount > KEPT) list.lastElementChild.remove();
  }
}
