"""Operations that others report: a user's function, or a command by lines of JSON."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, get_args

from cachesim.clock import Deadline
from cachesim.history.rows import Kind, Operation

_FIRST_OPERATION = 10.0
_LOOK = 0.05
"""Seconds to wait for the first operation of a user's code, and between two looks."""
KINDS: tuple[Kind, ...] = get_args(Kind)
_DECODER = json.JSONDecoder()


def operation(
    pod: str,
    op: str,
    ok: bool,
    *,
    start: float,
    duration: float = 0.0,
    service: str | None = None,
    kind: Kind | None = None,
    key: str | None = None,
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

    Raises:
        ValueError: a field is not what it has to be.
    """
    _check(service=service, kind=kind, key=key, error=error, written=written, read=read)
    name, _, last = op.rpartition(".")
    if name and last in KINDS:
        service, kind = service or name, kind or last
    return Operation(
        pod=pod,
        worker=0,
        service=_storable(service or op),
        kind=kind or "read",
        key=_storable(key or ""),
        due=start,
        start=start,
        end=start + duration,
        outcome="ok" if ok else "info",
        writer=None if written is None else pod,
        written=written,
        read=read,
        error=None if ok else _storable(error or "not ok"),
    )


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can be
        return False


def _is_integer(value: object) -> bool:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return is_integer and -(2**63) <= value < 2**63  # type: ignore[operator]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "service": (_is_text, "a text"),
    "kind": (lambda value: value in KINDS, f"one of {', '.join(KINDS)}"),
    "key": (_is_text, "a text"),
    "at": (_is_number, "a number of seconds"),
    "duration": (_is_number, "a number of seconds"),
    "error": (_is_text, "a text"),
    "written": (_is_integer, "an integer"),  # SQLite's are of 64 bits
    "read": (_is_integer, "an integer"),
}
"""What each field has to be, if it is told."""


def _check(**fields: object) -> None:
    for name, value in fields.items():
        is_right, what = _FIELDS[name]
        if value is not None and not is_right(value):
            raise ValueError(f"{name} has to be {what}, not {value!r}")


def _storable(text: str) -> str:
    """Return a text as SQLite takes it: half a character, which JSON may have, is escaped."""
    return text.encode(errors="backslashreplace").decode()


def parts(line: str) -> Iterator[str]:
    """Yield the JSON objects of a line, each alone, and what is between them.

    Threads that print at once may all write their texts before the first of them ends its line.
    """
    begin = at = 0
    while (at := line.find("{", at)) >= 0:
        try:
            _, end = _DECODER.raw_decode(line, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        yield line[begin:at]
        yield line[at:end]
        begin = at = end
    yield line[begin:]


def parse(text: str, pod: str, now: float, utc_offset: float) -> tuple[Operation, bool] | None:
    """Return the operation that a JSON object reports, and whether it tells its time.

    The fields are `op` and `ok`, and optionally `service`, `kind`, `key`, `at` (when it was due, in
    seconds since 1970), `duration` (seconds), `error`, `written` and `read`.

    Args:
        now: when it was read, in monotonic seconds.
        utc_offset: seconds to add to a monotonic time for the seconds since 1970.

    Returns:
        None for a text that reports no operation: it is no object, or has no `op` and `ok`.

    Raises:
        ValueError: a field is not what it has to be.
    """
    if not text.startswith("{"):
        return None
    try:
        fields: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not {"op", "ok"} <= fields.keys():
        return None
    op, ok = fields["op"], fields["ok"]
    if not isinstance(op, str):
        raise ValueError(f"op has to be a text, not {op!r}")
    if not isinstance(ok, bool):
        raise ValueError(f"ok has to be true or false, not {ok!r}")
    at, duration = fields.get("at"), fields.get("duration")
    _check(at=at, duration=duration)
    duration = max(0.0, duration or 0.0)
    start = now - duration if at is None else at - utc_offset
    found = operation(
        pod,
        op,
        ok,
        start=start,
        duration=duration,
        service=fields.get("service"),
        kind=fields.get("kind"),
        key=fields.get("key"),
        error=fields.get("error"),
        written=fields.get("written"),
        read=fields.get("read"),
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
