// The panel of a part of the topology: its state, its faults, and forms that break it.

import { applyFault, attempt, byId, call, healFault, html } from "./dom.js";
import { pathWords } from "./map.js";

const place = (name) => (name === "client" ? "clients" : `az-${name}`);

export class Panel {
  /** Args: `forms`, of all faults, as the server makes them from its catalogue. */
  constructor(forms) {
    this.forms = forms;
    this.dialog = byId("panel");
    this.subject = null;
    this.picture = null;
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close(); // beside it
    });
  }

  open(subject) {
    this.subject = subject;
    this.form = null;
    this.draw();
    if (!this.dialog.open) this.dialog.showModal();
  }

  /** Show a new state, and leave what is being filled in. */
  show(picture) {
    this.picture = picture;
    const names = picture.nodes.map((it) => it.name).join();
    if (this.names && this.names !== names) attempt(() => this.load());
    this.names = names;
    if (!this.dialog.open) return;
    const parts = this.parts();
    if (!parts) return this.dialog.close(); // the node was removed
    const { state, faults, actions } = parts;
    this.dialog.querySelector(".state")?.replaceWith(state);
    this.dialog.querySelector(".on-it")?.replaceWith(faults);
    const place = this.dialog.querySelector(".actions");
    if (place && place.textContent !== actions.map((it) => it.textContent).join("")) place.replaceChildren(...actions);
  }

  /** Get the forms anew: they offer the nodes that there are. */
  async load() {
    this.forms = await call("GET", "forms");
    if (this.dialog.open && !this.dialog.querySelector("form")) this.draw();
  }

  draw() {
    const { title, state, faults, actions, choices } = this.parts();
    this.dialog.replaceChildren(
      html(
        "div",
        { class: "inside" },
        html(
          "header",
          {},
          html("h2", { id: "panel-title" }, title),
          html("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => this.dialog.close() }, "✕"),
        ),
        state,
        faults,
        actions.length ? html("div", { class: "actions" }, ...actions) : null,
        html("h3", {}, "Break it"),
        html("div", { class: "choices", role: "group", "aria-label": "Faults" }, ...choices),
        html("div", { class: "place" }),
      ),
    );
  }

  parts() {
    const { kind } = this.subject;
    const it = this[kind]();
    if (!it) return null;
    const faults = this.picture.faults.filter((fault) => it.ids.includes(fault.id));
    return {
      title: it.title,
      state: html("p", { class: "state" }, it.state),
      faults: html("ul", { class: "faults on-it" }, ...faults.map((fault) => this.fault(fault))),
      actions: it.actions ?? [],
      choices: this.forms.filter((form) => it.suits(form)).map((form) => this.choice(form, it)),
    };
  }

  fault(it) {
    const heal = () => attempt(() => healFault(it.id));
    return html(
      "li",
      {},
      html("div", {}, html("b", {}, it.kind), html("span", { class: "on" }, it.target)),
      html("button", { type: "button", onclick: heal, "aria-label": `Heal ${it.kind}` }, "Heal"),
    );
  }

  topology() {
    const { name, shard, nodes, faults } = this.picture;
    const forms = this.forms.filter((form) => form.on === "topology");
    return {
      title: name,
      state: `${nodes.length} nodes. The shard is ${shard}.`,
      ids: faults.filter((it) => forms.some((form) => form.name === it.name)).map((it) => it.id),
      suits: (form) => forms.includes(form),
      given: { memcached: nodes.filter((it) => it.service === "memcached").length + 1 },
    };
  }

  zone() {
    const zone = this.picture.zones.find((it) => it.name === this.subject.name);
    const reach = Object.entries(zone.reach).filter(([name]) => name !== zone.name);
    const words = reach.map(([name, state]) => `To az-${name}: ${state}.`).join(" ");
    const ids = this.picture.paths
      .filter((it) => it.one === zone.name || it.other === zone.name)
      .flatMap((it) => it.faults);
    const others = this.picture.zones.filter((it) => it.name !== zone.name);
    return {
      title: `Zone az-${zone.name}`,
      state: `${zone.has_power ? "It has power" : "It has no power"}. From clients: ${this.picture.clients[zone.name]}. ${words}`,
      ids: [...zone.faults, ...ids],
      suits: (form) => form.on === "zone",
      given: { a: zone.name, b: others[0].name, zone: zone.name },
    };
  }

  node() {
    const node = this.picture.nodes.find((it) => it.name === this.subject.name);
    if (!node) return null;
    const post = (path, body) => () => attempt(() => call("POST", path, body));
    const button = (text, act) => html("button", { type: "button", onclick: act }, text);
    const actions = [button("Restart", post(`nodes/${node.name}/restart`))];
    if (node.state === "paused") actions.push(button("Resume", post(`nodes/${node.name}/resume`)));
    if (node.role === "replica") actions.push(button("Promote", post("failover", { to: node.zone })));
    return {
      title: node.name,
      state: `${node.role ? `${node.role}, ` : ""}${node.has_power ? node.state : "without power"}, in az-${node.zone}, at ${node.endpoint}.`,
      ids: node.faults,
      actions,
      suits: (form) => form.on === "node" && form.fields.some((it) => it.part && it.choices.includes(node.name)),
      given: { nodes: [node.name], replicas: [node.name] },
    };
  }

  path() {
    const { one, other } = this.subject;
    const path = this.picture.paths.find((it) => it.one === one && it.other === other);
    const isBetween = one !== "client";
    return {
      title: `${place(one)} – ${place(other)}`,
      state: `${path.links.length} links: ${pathWords(path)}.`,
      ids: path.faults,
      suits: (form) => form.on === "link" || (isBetween && form.name === "partition"),
      given: { links: path.links, a: one, b: other },
      among: path.links,
    };
  }

  endpoint() {
    const it = this.picture.endpoints.find((it) => it.name === this.subject.name);
    return {
      title: it.name,
      state: `Configuration endpoint of ${it.service}, at ${it.address}: ${pathWords({ ...it, one: "client", other: it.name })}.`,
      ids: it.faults,
      suits: (form) => form.on === "endpoint" || form.on === "link",
      given: { endpoints: [it.name], links: [it.link] },
      among: [it.link],
    };
  }

  choice(form, it) {
    const button = html(
      "button",
      { type: "button", "aria-expanded": "false", title: form.help, "data-form": form.name },
      form.name,
    );
    button.addEventListener("click", () => {
      for (const other of this.dialog.querySelectorAll(".choices button")) {
        other.setAttribute("aria-expanded", String(other === button));
      }
      const filled = this.filled(form, it);
      this.dialog.querySelector(".place").replaceChildren(filled);
      filled.querySelector("input, select, button").focus();
    });
    return button;
  }

  filled(form, it) {
    const fields = form.fields.map((field) => input(field, it.given[field.name], it.among));
    const times = html(
      "details",
      {},
      html("summary", {}, "When"),
      time("heal_after", "Heal it after", "seconds; empty: by hand"),
      form.grows ? time("over", "Let it grow over", "seconds; empty: at once") : null,
      html(
        "fieldset",
        {},
        html("legend", {}, "Let it come and go"),
        time("on", "There for", "seconds"),
        time("off", "Away for", "seconds"),
      ),
    );
    const given = (name) => {
      const text = filled.elements[name]?.value;
      return text ? Number(text) : null;
    };
    const submit = async (event) => {
      event.preventDefault();
      const fault = { fault: form.name };
      for (const field of fields) {
        const value = field.value();
        if (value != null) fault[field.name] = value;
      }
      const flap = given("on") && given("off") ? [given("on"), given("off")] : null;
      const when = { heal_after: given("heal_after"), over: given("over"), flap };
      if (await attempt(() => applyFault(fault, when))) this.dialog.close();
    };
    const filled = html(
      "form",
      { onsubmit: submit, "aria-label": form.name },
      html("p", {}, form.help),
      html("p", { class: "muted" }, html("b", {}, "What clients see: "), marked(form.effect), "."),
      ...fields.map((field) => field.element),
      times,
      html("button", { type: "submit", class: "danger" }, `Apply ${form.name}`),
    );
    return filled;
  }
}

/** Return a text whose words between backticks are code. */
const marked = (text) => {
  const it = document.createDocumentFragment();
  text.split("`").forEach((part, number) => it.append(number % 2 ? html("code", {}, part) : part));
  return it;
};

const time = (name, label, hint) =>
  html(
    "label",
    { class: "field" },
    html("span", {}, label),
    html("input", { name, type: "number", min: 0.1, step: "any", placeholder: hint }),
  );

/** Return a field of a form: its `name`, its `element`, and `value`, which reads it. */
const input = (field, given, among) => {
  const kinds = { number, flag, one, several, words, toxic, text };
  const { element, value } = kinds[field.input](field, given ?? field.default, among);
  return { name: field.name, element, value };
};

const labelled = (field, ...inputs) =>
  html(
    "label",
    { class: "field" },
    html("span", {}, field.name.replaceAll("_", " "), field.unit ? html("i", {}, ` ${field.unit}`) : null),
    ...inputs,
    html("small", {}, marked(field.help)),
  );

const number = (field, given) => {
  const it = html("input", {
    type: "number", name: field.name, min: field.least, max: field.most, step: field.step,
    required: field.required, value: given ?? (field.required ? suggestion(field) : null),
  });
  return { element: labelled(field, it), value: () => (it.value === "" ? null : Number(it.value)) };
};

/** Return a value that shows an effect, where the catalogue has no default. */
const suggestion = ({ unit, least, most }) =>
  Math.min(most, Math.max(least, { ms: 100, s: 5, "KB/s": 10, connections: 10 }[unit] ?? (most === 1 ? 0.2 : 1)));

const text = (field, given) => {
  const it = html("input", { name: field.name, required: field.required, value: given });
  return { element: labelled(field, it), value: () => it.value || null };
};

const words = (field, given) => {
  const it = html("input", { name: field.name, required: field.required, value: (given ?? []).join(" ") });
  const read = () => it.value.split(/[\s,]+/).filter(Boolean);
  return { element: labelled(field, it), value: () => (read().length ? read() : null) };
};

const flag = (field, given) => {
  const it = html("input", { type: "checkbox", name: field.name, checked: Boolean(given) });
  const element = html(
    "label",
    { class: "field check" },
    it,
    html("span", {}, field.name.replaceAll("_", " ")),
    html("small", {}, field.help),
  );
  return { element, value: () => it.checked };
};

const one = (field, given) => {
  const options = field.choices.map((it) => html("option", { value: it, selected: it === given }, it));
  const it = html("select", { name: field.name }, ...options);
  return { element: labelled(field, it), value: () => it.value };
};

const several = (field, given, among) => {
  const offered = field.part === "link" && among ? among : field.choices;
  const boxes = offered.map((it) =>
    html("input", { type: "checkbox", name: field.name, value: it, checked: (given ?? []).includes(it) }),
  );
  const element = html(
    "fieldset",
    { class: "field" },
    html("legend", {}, field.name.replaceAll("_", " ")),
    html("div", { class: "boxes" }, ...boxes.map((box) => html("label", {}, box, html("span", {}, box.value)))),
    html("small", {}, marked(field.help)),
  );
  const read = () => boxes.filter((box) => box.checked).map((box) => box.value);
  return { element, value: () => (read().length || field.required ? read() : null) };
};

const toxic = (field) => {
  const place = html("div", {});
  const options = field.toxics.map((it) => html("option", { value: it.type }, it.type));
  const type = html("select", { name: "type" }, ...options);
  let inputs = [];
  const draw = () => {
    const chosen = field.toxics.find((it) => it.type === type.value);
    inputs = chosen.attributes.map((it) =>
      html("input", { type: "number", min: 0, max: chosen.most, step: 1, name: it.name, required: true, value: it.default ?? 100 }),
    );
    place.replaceChildren(
      ...inputs.map((it) => html("label", { class: "field" }, html("span", {}, it.name.replaceAll("_", " ")), it)),
    );
  };
  type.addEventListener("change", draw);
  draw();
  const read = () => ({
    type: type.value,
    attributes: Object.fromEntries(inputs.map((it) => [it.name, Number(it.value)])),
  });
  return { element: html("div", {}, labelled(field, type), place), value: read };
};
