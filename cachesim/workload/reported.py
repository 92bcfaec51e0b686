"""Operations that others report: a user's function, or a command by lines of JSON."""

import json
import math
import threading
from typing import Any, get_args

from cachesim.clock import Deadline
from cachesim.history.rows import Kind, Operation

_FIRST_OPERATION = 10.0
_LOOK = 0.05
"""Seconds to wait for the first operation of a user's code, and between two looks."""
KINDS: tuple[Kind, ...] = get_args(Kind)


def operation(
    pod: str,
    op: str,
    ok: bool,
    *,
    start: float,
    duration: float = 0.0,
    service: str | None = None,
    kind: Kind | None = None,
    key: str = "",
    error: str | None = None,
    written: int | None = None,
    read: int | None = None,
) -> Operation:
    """Return an operation of a pod that says what it did.

    One that was not answered may have been applied: nobody tells whether its client retries.

    Args:
        op: its name: `service`, or `service.kind`.
        start: when it was due and began, in monotonic seconds.
        duration: seconds.
    """
    name, _, last = op.rpartition(".")
    if name and last in KINDS:
        service, kind = service or name, kind or last
    return Operation(
        pod=pod,
        worker=0,
        service=_storable(service or op),
        kind=kind or "read",
        key=_storable(key),
        due=start,
        start=start,
        end=start + duration,
        outcome="ok" if ok else "info",
        writer=None if written is None else pod,
        written=written,
        read=read,
        error=None if ok else _storable(error or "not ok"),
    )


def _storable(text: str) -> str:
    """Return a text as SQLite takes it: half a character, which JSON may have, is escaped."""
    return text.encode(errors="backslashreplace").decode()


def parse(line: str, pod: str, now: float, utc_offset: float) -> tuple[Operation, bool] | None:
    """Return the operation that a line of JSON reports, and whether it tells its time.

    The fields are `op` and `ok`, and optionally `service`, `kind`, `key`, `at` (when it was due, in
    seconds since 1970), `duration` (seconds), `error`, `written` and `read`.

    Args:
        now: when the line was read, in monotonic seconds.
        utc_offset: seconds to add to a monotonic time for the seconds since 1970.

    Returns:
        None for a line that reports no operation.
    """
    if not line.startswith("{"):
        return None
    try:
        fields: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    op, ok = fields.get("op"), fields.get("ok")
    if not isinstance(op, str) or not isinstance(ok, bool):
        return None
    duration = max(0.0, _number(fields.get("duration")) or 0.0)
    at = _number(fields.get("at"))
    start = now - duration if at is None else at - utc_offset
    kind = fields.get("kind")
    found = operation(
        pod,
        op,
        ok,
        start=start,
        duration=duration,
        service=_text(fields.get("service")),
        kind=kind if kind in KINDS else None,
        key=_text(fields.get("key")) or "",
        error=_text(fields.get("error")),
        written=_integer(fields.get("written")),
        read=_integer(fields.get("read")),
    )
    return found, at is not None


def wait_for_first(first: threading.Event, is_over: threading.Event) -> None:
    """Wait until a user's code has opened its pools, which its first operation tells.

    Args:
        first: is set with the first operation.
        is_over: is set when nobody waits any more.
    """
    limit = Deadline(_FIRST_OPERATION)
    while not (first.wait(_LOOK) or is_over.is_set() or limit.expired):
        pass


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


def _integer(value: object) -> int | None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    # SQLite's are of 64 bits.
    return value if is_integer and -(2**63) <= value < 2**63 else None  # type: ignore[operator,return-value]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
