// Starts a shipped scenario, and shows how its verdict grows.

import { attempt, byId, call, html } from "./dom.js";

/** Let a scenario be chosen, and run it. */
export const chooseScenario = async () => {
  const scenarios = await call("GET", "scenarios");
  const dialog = byId("choose");
  const start = (name) => attempt(async () => {
    await call("POST", "runs", { scenario: name });
    dialog.close();
  });
  dialog.replaceChildren(
    html(
      "div",
      { class: "inside" },
      html(
        "header",
        {},
        html("h2", { id: "choose-title" }, "Run a scenario"),
        html("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close() }, "✕"),
      ),
      html(
        "p",
        { class: "muted" },
        "It empties the topology, brings its own traffic, breaks what it says, and judges what clients saw. Until it ends, this page only looks.",
      ),
      html(
        "ul",
        { class: "scenarios" },
        ...scenarios.map((it) =>
          html(
            "li",
            {},
            html("button", { type: "button", onclick: () => start(it.name), "data-scenario": it.name }, it.name),
            html("small", {}, it.title),
          ),
        ),
      ),
    ),
  );
  dialog.onclick = (event) => event.target === dialog && dialog.close(); // beside it
  dialog.showModal();
};

const figure = ({ low, high, unit, unbounded }) => {
  if (low == null) return "";
  const most = unbounded ? "∞" : drawing.written(high, "");
  const least = drawing.written(low, "");
  return ` ${least === most ? least : `${least} to ${most}`} ${unit}`;
};

/** Show how a run goes on, and what can be said of it so far. */
export const showRun = (run) => {
  const place = byId("run");
  place.hidden = !run.scenario;
  if (!run.scenario) return;
  const last = run.reason || (run.lines.at(-1) ?? "it starts");
  const word = run.is_over ? (run.result ?? "no verdict") : "running";
  place.className = `run ${run.is_over ? (run.result ?? "unknown") : "going"}`;
  place.replaceChildren(
    html(
      "div",
      { class: "top" },
      html("span", { class: "chip" }, word),
      html("b", {}, run.scenario),
      html("span", { class: "line", role: "status" }, last),
      run.is_over
        ? html("a", { href: "/report", target: "_blank", rel: "noopener" }, "Report")
        : html("button", { type: "button", onclick: () => attempt(() => call("DELETE", "runs")) }, "End it"),
      run.is_over
        ? html("button", { type: "button", class: "close", "aria-label": "Hide", onclick: () => (place.hidden = true) }, "✕")
        : null,
    ),
    html(
      "ul",
      { class: "verdicts" },
      ...run.verdicts.map((it) =>
        html(
          "li",
          { class: it.result, title: it.reason },
          html("span", { class: "chip" }, run.is_over ? it.result : `${it.result} so far`),
          ` ${it.name}`,
          html("small", {}, figure(it)),
        ),
      ),
    ),
  );
};
