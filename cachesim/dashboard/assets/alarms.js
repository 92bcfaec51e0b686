// The alarms, the inbox, and the tabs that they share with the events.

import { byId, clock, html } from "./dom.js";

const KEPT = 200; // messages that the page shows
const ORDER = ["ALARM", "OK", "INSUFFICIENT_DATA"];
const WORDS = { ALARM: "alarm", OK: "ok", INSUFFICIENT_DATA: "no data" };
const SIGNS = {
  GreaterThanThreshold: ">", GreaterThanOrEqualToThreshold: "≥",
  LessThanThreshold: "<", LessThanOrEqualToThreshold: "≤",
};

/** Let the tabs be chosen by click and by arrow key. */
export const tabs = () => {
  const all = [...document.querySelectorAll("[role=tab]")];
  const choose = (tab) => {
    for (const it of all) {
      const isChosen = it === tab;
      it.setAttribute("aria-selected", String(isChosen));
      it.tabIndex = isChosen ? 0 : -1;
      byId(it.getAttribute("aria-controls")).hidden = !isChosen;
    }
  };
  all.forEach((tab, number) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = all[(number + step + all.length) % all.length];
      choose(next);
      next.focus();
    });
  });
};

/** All alarms, those that fire first. */
export class AlarmList {
  show(alarms) {
    const sorted = [...alarms].sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state));
    byId("alarms").replaceChildren(...sorted.map((it) => this.item(it)));
    const firing = alarms.filter((it) => it.state === "ALARM").length;
    byId("firing").textContent = firing || "";
    byId("firing").className = firing ? "count bad" : "count";
  }

  item(it) {
    const value = it.value == null ? "" : `${drawing.written(it.value, "")}${it.node ? ` on ${it.node}` : ""}, `;
    const sign = SIGNS[it.comparison] ?? it.comparison;
    const goes = it.actions.length ? ` → ${it.actions.join(", ")}` : "";
    return html(
      "li",
      { class: it.state.toLowerCase(), title: it.out_of_reach || it.reason },
      html("span", { class: "chip" }, WORDS[it.state]),
      html(
        "div",
        {},
        html("b", {}, it.name),
        html("small", {}, `${value}${it.metric} ${sign} ${it.threshold}${goes}`),
        it.out_of_reach ? html("small", { class: "never" }, it.out_of_reach) : null,
      ),
    );
  }
}

/** What would have been sent, the newest first. */
export class InboxList {
  constructor() {
    this.last = 0;
    this.count = 0;
  }

  add(messages) {
    const list = byId("inbox");
    for (const it of messages) {
      if (it.number <= this.last) continue;
      if (!this.last) list.replaceChildren();
      this.last = it.number;
      this.count += 1;
      list.prepend(this.item(it));
    }
    while (list.childElementCount > KEPT) list.lastElementChild.remove();
    byId("unread").textContent = this.count || "";
  }

  item(it) {
    const received = it.received ? JSON.stringify(it.received, null, 2) : "nothing";
    return html(
      "li",
      {},
      html(
        "details",
        {},
        html(
          "summary",
          {},
          html("span", { class: "to" }, it.to),
          html("time", {}, clock(it.at)),
          html("span", { class: "subject" }, it.subject),
        ),
        it.note ? html("p", { class: "muted" }, it.note) : null,
        html("h4", {}, `What ${it.to} gets`),
        html("pre", {}, received),
        html("h4", {}, "The message of SNS"),
        html("pre", {}, JSON.stringify(it.envelope, null, 2)),
      ),
    );
  }
}
