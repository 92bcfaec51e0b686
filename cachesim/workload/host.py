"""The process that the pods of a workload are forked from, so that all is imported once.

On stdin, one JSON object a line, come the order, then when to begin, then the end: the pods get
what comes after the order. On stdout goes what becomes of them; they say for themselves what they
do. The end of stdin is the end of the process that started it, and so of all pods. See
`cachesim.workload.pods` for the other side.
"""

import contextlib
import gc
import importlib
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

from cachesim.workload.plan import Plan
from cachesim.workload.pod import Order, Reports, Turns, run

_AT_ONCE = 2
"""Pods that open their pools at a time."""


def main(order: Mapping[str, Any]) -> NoReturn:
    """Fork the pods of an order, and end when all of them have."""
    plan = Plan.from_dict(order["plan"])
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what else is printed goes to the log
    for module in _modules(plan):
        importlib.import_module(module)
    gc.freeze()  # what is there stays, and stays shared
    turns = Turns(_AT_ONCE)
    pods: dict[int, str] = {}
    writers: list[IO[bytes]] = []
    for index, name in enumerate(plan.names):
        mine, theirs = os.pipe()
        if not (pid := os.fork()):
            os.dup2(mine, 0)
            os.close(mine)
            os.close(theirs)
            for writer in writers:
                writer.close()  # or the others' pipes would not end with this process's parent
            it = _order(order, plan, index, turns)
            _end(run(it, Reports(name, reports, it.tokens)))
        os.close(mine)
        pods[pid] = name
        writers.append(os.fdopen(theirs, "wb", buffering=0))
    threading.Thread(target=_wait, args=(pods, reports), daemon=True).start()
    for line in sys.stdin.buffer:
        for writer in writers:
            with contextlib.suppress(OSError):  # it has ended
                writer.write(line)
    for writer in writers:
        writer.close()
    threading.Event().wait()  # until `_wait` ends this process
    raise AssertionError


def _modules(plan: Plan) -> list[str]:
    found = ["sqlite3"]
    if plan.sessions is not None:
        found += ["redis.cluster", "cachesim.workload.sessions"]
    if plan.api_cache is not None:
        found += ["pymemcache.client.hash", "cachesim.workload.api_cache"]
    if plan.sessions is not None or plan.api_cache is not None:
        found += ["cachesim.workload.clients", "cachesim.servers.certificates"]
    return found


def _order(order: Mapping[str, Any], plan: Plan, index: int, turns: Turns) -> Order:
    return Order(
        plan,
        index,
        order["env"],
        Path(order["path"]),
        order["deadline"],
        order["seed"],
        order["environment"],
        turns,
    )


def _wait(pods: dict[int, str], reports: IO[str]) -> NoReturn:
    """Tell how each pod ends, and end with the last."""
    report = {name: Reports(name, reports) for name in pods.values()}
    while pods:
        pid, status = os.wait()
        name = pods.pop(pid)
        report[name](code=os.waitstatus_to_exitcode(status))
    _end(0)


def _end(code: int) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)  # calls that never ended keep no one
