// Follows the topology, and shows it.

import { AlarmList, InboxList, tabs } from "./alarms.js";
import { Charts } from "./charts.js";
import { attempt, byId, call, toast } from "./dom.js";
import { EventList, FaultList, showHead } from "./lists.js";
import { Map as Topology, showReach } from "./map.js";
import { chooseScenario, showRun } from "./runs.js";
import { Panel } from "./panel.js";

const panel = new Panel(await call("GET", "forms"));
const map = new Topology(byId("map"), (subject) => panel.open(subject));
const charts = new Charts();
const faults = new FaultList();
const events = new EventList();
const alarms = new AlarmList();
const inbox = new InboxList();
tabs();
let stream = null;

const on = {
  picture: (picture) => {
    showHead(picture);
    panel.show(picture);
    map.show(picture);
    showReach(picture);
    faults.show(picture);
    charts.show(picture);
    document.documentElement.dataset.ready = "";
  },
  events: (found) => {
    charts.note(found.filter((it) => it.number > events.last));
    events.add(found);
  },
  history: (samples) => charts.history(samples),
  figures: (sample) => {
    map.measure(sample.nodes);
    charts.add(sample);
    faults.tick();
  },
  alarms: (found) => alarms.show(found),
  inbox: (found) => inbox.add(found),
  run: (run) => showRun(run),
  late: () => follow(),
  ended: (why) => {
    stream.close();
    const notice = byId("notice");
    notice.textContent = why;
    notice.hidden = false;
    document.documentElement.dataset.ended = "";
  },
};

const follow = () => {
  stream?.close();
  stream = new EventSource("/api/stream");
  for (const [kind, show] of Object.entries(on)) {
    stream.addEventListener(kind, (event) => show(JSON.parse(event.data)));
  }
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) on.ended("The dashboard does not answer. Has it ended?");
  });
};

// A page that nobody sees costs nothing.
document.addEventListener("visibilitychange", () => {
  if ("ended" in document.documentElement.dataset) return;
  if (document.hidden) stream.close();
  else follow();
});
byId("whole").addEventListener("click", () => panel.open({ kind: "topology" }));
byId("scenarios").addEventListener("click", () => attempt(chooseScenario));
byId("heal").addEventListener("click", () => attempt(() => call("DELETE", "faults")));
byId("failover").addEventListener("click", () => attempt(() => call("POST", "failover", {})));
byId("reset").addEventListener("click", () =>
  attempt(async () => {
    await call("POST", "reset", {});
    toast("The topology is as new.");
  }),
);
follow();
