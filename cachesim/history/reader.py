"""Reads the history of a run, which a `Recorder` has written. See `cachesim.history.rows`."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, NamedTuple, ParamSpec, Self, TypeVar

from cachesim.history.rows import (
    TABLES,
    Beat,
    EventRow,
    FinalRead,
    GeneratorReading,
    Operation,
    Row,
    Sample,
    SampleName,
    Step,
)

P = ParamSpec("P")
T = TypeVar("T")


class Span(NamedTuple):
    """From one time to another, in monotonic seconds."""

    begin: float
    end: float


class History:
    """Reads the history of a run. Rows come one by one, so that a long run fits into memory.

    Raises:
        sqlite3.Error: the file is missing, or no history.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        self._computed: dict[tuple[Any, ...], Any] = {}
        try:
            self.meta: dict[str, Any] = {
                key: json.loads(value) for key, value in self.rows("SELECT key, value FROM meta")
            }
        except BaseException:
            self._database.close()
            raise

    def rows(self, query: str, *parameters: Any, **named: Any) -> Iterator[tuple[Any, ...]]:
        """Return the rows that a query in SQL finds, one by one.

        Args:
            parameters: of each `?` in it; or `named`, of each `:name`.
        """
        return self._database.execute(query, named or parameters)

    def compute(
        self, function: "Callable[Concatenate[History, P], T]", *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what a function makes of this history. It is called once, however often asked.

        Args:
            args, kwargs: its further arguments, hashable.
        """
        key = (function, args, *kwargs.items())
        if key not in self._computed:
            self._computed[key] = function(self, *args, **kwargs)
        result: T = self._computed[key]
        return result

    # --- facts --------------------------------------------------------------------------------

    @property
    def speed(self) -> float:
        """How much faster than in production time went by for the control plane."""
        return float(self.meta.get("speed", 1))

    @property
    def deadline(self) -> float:
        """Seconds from its due time within which an operation has to be answered."""
        return float(self.meta.get("deadline", 1))

    @property
    def eps(self) -> float:
        """Seconds by which a time from elsewhere may be wrong."""
        return float(self.meta.get("eps", 0.005))

    @property
    def operations_eps(self) -> float:
        """Seconds by which the times of operations may be wrong."""
        return float(self.meta.get("operations_eps") or 0)

    @property
    def patience(self) -> float:
        """The longest that a call may take and still succeed, in seconds. Not declared: inf."""
        return self._declared("patience")

    @property
    def comeback(self) -> float:
        """The longest until an unused node is tried again, in seconds. Not declared: inf."""
        return self._declared("comeback")

    def patience_of(self, service: str) -> float:
        """As `patience`, of a service's own client."""
        return self._declared("patience", service)

    def comeback_of(self, service: str) -> float:
        """As `comeback`, of a service's own client."""
        return self._declared("comeback", service)

    def _declared(self, name: str, service: str = "") -> float:
        own = (self.meta.get("clients") or {}).get(service)
        value = (self.meta.get("client") or {} if own is None else own).get(name)
        return float("inf") if value is None else float(value)

    @property
    def baseline(self) -> Span | None:
        """The time before the first fault, if it was recorded."""
        found = self.meta.get("baseline")
        return Span(found["begin"], found["end"]) if found else None

    def cut_within(self, begin: float = float("-inf"), end: float = float("inf")) -> float:
        """Return how long the holds were that were cut in a time, in seconds of production."""
        cuts = self.meta.get("cuts") or ()
        return sum(float(it["seconds"]) for it in cuts if begin <= it["at"] <= end)

    @property
    def heal_at(self) -> float | None:
        """When the last heal was called, if it was."""
        return self.meta.get("heal_at")

    @property
    def end_at(self) -> float:
        """When the workload ended. Of a run that was killed: when its last operation was due."""
        found = self.meta.get("end_at")
        if found is None:
            [(found,)] = self.rows("SELECT max(due) FROM operations")
        return float(found or 0)

    @property
    def interrupted(self) -> str | None:
        """Why the run was cut short, or None if it was not."""
        found = self.meta.get("interrupted")
        if not found and self.meta.get("end_at") is None:
            return "the run was killed"
        return str(found) if found else None

    # --- rows ---------------------------------------------------------------------------------

    def operations(self, where: str = "1", *parameters: Any) -> Iterator[Operation]:
        """Return operations, by the time when they were due.

        Args:
            where: a condition in SQL, with a `?` for each parameter.
        """
        return map(Operation._make, self._select(Operation, where, parameters, "due"))

    def beats(self, where: str = "1", *parameters: Any) -> Iterator[Beat]:
        """Return the prober's operations, by the time when they were due."""
        return map(Beat._make, self._select(Beat, where, parameters, "due"))

    def events(self, *kinds: str) -> list[EventRow]:
        """Return the events of some kinds, by default of all, in their order."""
        where = f"kind IN ({', '.join('?' * len(kinds))})" if kinds else "1"
        found = self._select(EventRow, where, kinds, "number")
        return [EventRow._make((*values, json.loads(data))) for *values, data in found]

    def steps(self) -> list[Step]:
        """Return the steps of the timeline, by the time of their begin; those without one last."""
        found = self._select(Step, "1", (), "begin_call IS NULL, begin_call, id")
        return [
            Step._make((id, json.loads(fault), *between, json.loads(witness), outcome))
            for id, fault, *between, witness, outcome in found
        ]

    def samples(self, name: SampleName, node: str | None = None) -> list[Sample]:
        """Return the readings of one kind, of one node or of all, by time."""
        where = "name = ?" if node is None else "name = ? AND node = ?"
        parameters = (name,) if node is None else (name, node)
        return [Sample(*values) for values in self._select(Sample, where, parameters, "at")]

    def final_reads(self) -> Iterator[FinalRead]:
        """Return what each node had in the end, by key."""
        return map(FinalRead._make, self._select(FinalRead, "1", (), "key, node"))

    def generator(self) -> Iterator[GeneratorReading]:
        """Return the looks at the pods' own processes, by pod and time."""
        found = self._select(GeneratorReading, "1", (), "pod, at")
        return map(GeneratorReading._make, found)

    def _select(
        self, kind: type[Row], where: str, parameters: Iterable[Any], order: str
    ) -> Iterator[tuple[Any, ...]]:
        columns = ", ".join(kind._fields)
        query = f"SELECT {columns} FROM {TABLES[kind]} WHERE {where} ORDER BY {order}"  # noqa: S608
        return self.rows(query, *parameters)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
