"""What a history is made of: the rows of its tables, and the keys of its facts. Data, no I/O.

All times are monotonic seconds of one machine, `CLOCK_MONOTONIC`. The facts of a run, in the table
`meta`, are JSON by these keys:

- `scenario`: the resolved timeline; `seed`; `speed`; `settings`: of the topology; `backend`;
  `versions`; `again`: the command that does it again.
- `expect`: what is expected, by checker; `steady`: what is asked of the baseline, by service.
- `quiet_cut`: whether quiet holds were cut; `cuts`: `{"at": when, "seconds": of production}` each.
- `deadline`: seconds from an operation's due time within which an answer is good.
- `client`: its profile, `{"patience": seconds, "comeback": seconds}`; what it does not declare is
  left out. `clients`: the profile of each service's own client, by service, where they differ; the
  longest are those of `client`. One that asks for the nodes from time to time has `discovery`:
  seconds, real, from one time to the next. `pods` and `pool`: how many pods, and connections of
  each, null if nobody knows.
- `utc_offset`: seconds to add to a monotonic time for the seconds since 1970.
- `eps`: seconds by which a time from elsewhere, such as a sample's, may be wrong. `operations_eps`:
  those of operations alone, if a command reports them late; left out, or 0, if they are right.
- `baseline`: `{"begin": at, "end": at}`, the time before the first fault.
- `heal_at`: when the last heal was called; `end_at`: when the workload ended.
- `alarms`: of the topology, if they were watched: `{"alarms": [AlarmStatus], "minutes": [{"begin":
  at, "end": at, "nodes": [those that had data]}]}`, see `cachesim.runs.calls`.
- `exit_codes`: of the pods, by name; `command_code`: of the user's command, if it ended by itself,
  and `command_ended_at`: when; `dead`: what became of pods that ended before their time, by name.
- `interrupted`: why the run was cut short; left out, or null, if it was not.
"""

from typing import Any, Literal, NamedTuple

Kind = Literal["read", "write", "delete", "touch"]
ORIGIN = "origin"
"""The service of the loads from what is behind a cache. They are not judged as a service's."""

Outcome = Literal["ok", "fail", "info", "shed", "unacked"]
"""How an operation ended.

- `ok`: it was answered. A miss is an answer.
- `fail`: it was certainly not applied: refused before it was sent, no free connection, or an error
  answer to a client that does not retry by itself.
- `info`: it may or may not have been applied: a timeout, a connection lost after sending, an
  operation that never ended, and any error of a client that retries by itself.
- `shed`: it was due, but not started within the deadline.
- `unacked`: it was sent without waiting for an answer.
"""

StepOutcome = Literal["applied", "skipped", "missing", "failed"]
"""What became of a step. `skipped`: it had no target, and its file says to skip it then; or it is a
repetition up to the scenario's end, which came before.
`missing`: it had no target, or the event that it waited for never came. `failed`: the fault could
not be applied or healed."""

SampleName = Literal[
    "role",
    "fenced",
    "offset",
    "fsynced_at",
    "evicted_keys",
    "expired_keys",
    "noeviction",
    "connections",
    "connections_received",
    "max_connections",
    "used_memory",
    "max_memory",
    "keys",
    "injected_answers",
    "commands",
]
"""What is sampled of a server.

- `role`: 1 if it says that it is a primary, 0 if a replica.
- `fenced`: 1 if it is a former primary that the control plane has made refuse writes, 0 if not.
- `offset`: its replication offset in bytes. Of a replica, what it has applied.
- `fsynced_at`: when its last completed fsync ended, in monotonic seconds.
- `evicted_keys`, `expired_keys`: its counters, which begin with its process.
- `noeviction`: 1 if that is its policy, 0 if not.
- `connections`: open connections; `connections_received`: those accepted since its process began.
  Both without cachesim's own. `max_connections`: the most that it takes.
- `used_memory`, `max_memory`: bytes. `keys`: how many it has.
- `injected_answers`: on how many requests the rules of faults have worked; of emulated nodes.
- `commands`: Redis: requests that it has served; Memcached: keys that were asked for. A counter,
  which begins with its process.
"""


class Operation(NamedTuple):
    """One operation of the workload.

    Attributes:
        pod: the process of the service that made it.
        worker: the worker in it.
        service: `sessions`, `api_cache`, `ORIGIN`, or a name of the user's.
        due: when its schedule wanted it to begin.
        start: when it began. For a `shed` one: when it was given up.
        end: when it ended. None: never.
        node: the node that answered, or was asked last, where the client tells.
        connection: the connection that it went through, where the client tells.
        writer: who wrote `written`. A key has one writer.
        written: the version that it wrote: a sequence number, which grows with each write of a key.
        read_writer: who wrote what it read.
        read: the version that it read. None: a miss, or not told.
        attempts: how often the client sent it, where it tells.
        ttl: the TTL that it set, in seconds. None: none.
        error: the error's name, `TimeoutError`.
        ledger: 1 if its key is written once and never again, else 0.
    """

    pod: str
    worker: int
    service: str
    kind: Kind
    key: str
    due: float
    start: float
    end: float | None
    outcome: Outcome
    node: str | None = None
    connection: str | None = None
    writer: str | None = None
    written: int | None = None
    read_writer: str | None = None
    read: int | None = None
    attempts: int | None = None
    ttl: float | None = None
    error: str | None = None
    ledger: int = 0


class Beat(NamedTuple):
    """One operation of cachesim's own prober, without a retry.

    Attributes:
        node: the node. For writes: the primary of that moment.
        end: when it ended. None: never.
        ok: 1 if it was answered, else 0.
        error: the error's name, if there was one.
    """

    node: str
    kind: Literal["read", "write"]
    due: float
    start: float
    end: float | None
    ok: int
    error: str | None = None


class EventRow(NamedTuple):
    """One entry of the topology's event log. See `cachesim.events.Event`."""

    number: int
    at: float
    kind: str
    source: str
    message: str
    data: dict[str, Any]


class Step(NamedTuple):
    """One step of the timeline. Recorded again, it replaces what was recorded under its id.

    Attributes:
        fault: the fault as `FaultSpec.as_dict` has it, its target resolved.
        target: what it was applied to, for people.
        begin_call: when it was called. Its effect was there at `begin_confirmed` at the latest.
        end_call: when it was healed. Its effect was seen to be gone at `end_confirmed`.
        witness: what the runner saw of the effect: `seen` during the step and `gone` after it, each
            true or false and left out if nobody looked; `what` it looked at, for people.
    """

    id: str
    fault: dict[str, Any]
    target: str
    begin_call: float | None
    begin_confirmed: float | None
    end_call: float | None
    end_confirmed: float | None
    witness: dict[str, Any]
    outcome: StepOutcome


class Sample(NamedTuple):
    """One reading of a server. See `SampleName`."""

    at: float
    node: str
    name: SampleName
    value: float


class FinalRead(NamedTuple):
    """What a node had under a key after all was healed and quiet.

    Attributes:
        role: the node's role then.
        writer: who wrote the version. None: the key is absent.
        version: the sequence number of the version. None: the key is absent.
    """

    key: str
    node: str
    role: Literal["primary", "replica"]
    at: float
    writer: str | None
    version: int | None


class GeneratorReading(NamedTuple):
    """One look at a pod's own process.

    Attributes:
        lag: how late a thread woke that wakes every 10 ms, in seconds.
        cpu: the share of one processor that the process used since the last look.
        idle: workers that had nothing to do.
    """

    at: float
    pod: str
    lag: float
    cpu: float
    idle: int


Row = Operation | Beat | EventRow | Step | Sample | FinalRead | GeneratorReading

TABLES: dict[type[Row], str] = {
    Operation: "operations",
    Beat: "beats",
    EventRow: "events",
    Step: "steps",
    Sample: "samples",
    FinalRead: "final_reads",
    GeneratorReading: "generator",
}

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS operations (
    id INTEGER PRIMARY KEY, pod TEXT NOT NULL, worker INTEGER NOT NULL, service TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('read', 'write', 'delete', 'touch')), key TEXT NOT NULL,
    due REAL NOT NULL, start REAL NOT NULL, end REAL,
    outcome TEXT NOT NULL CHECK (outcome IN ('ok', 'fail', 'info', 'shed', 'unacked')),
    node TEXT, connection TEXT, writer TEXT, written INTEGER, read_writer TEXT, read INTEGER,
    attempts INTEGER, ttl REAL, error TEXT, ledger INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS beats (
    node TEXT NOT NULL, kind TEXT NOT NULL, due REAL NOT NULL, start REAL NOT NULL, end REAL,
    ok INTEGER NOT NULL, error TEXT
);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL,
    message TEXT NOT NULL, data TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS steps (
    id TEXT PRIMARY KEY, fault TEXT NOT NULL, target TEXT NOT NULL, begin_call REAL,
    begin_confirmed REAL, end_call REAL, end_confirmed REAL, witness TEXT NOT NULL,
    outcome TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS samples (
    at REAL NOT NULL, node TEXT NOT NULL, name TEXT NOT NULL, value REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS final_reads (
    key TEXT NOT NULL, node TEXT NOT NULL, role TEXT NOT NULL, at REAL NOT NULL, writer TEXT,
    version INTEGER
);
CREATE TABLE IF NOT EXISTS generator (
    at REAL NOT NULL, pod TEXT NOT NULL, lag REAL NOT NULL, cpu REAL NOT NULL, idle INTEGER NOT NULL
);
"""
"""The tables of a history, SQLite."""

INDEXES = """
CREATE INDEX IF NOT EXISTS operations_due ON operations (due);
CREATE INDEX IF NOT EXISTS samples_name ON samples (name, node, at);
"""
