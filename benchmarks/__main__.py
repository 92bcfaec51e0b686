"""`python -m benchmarks`: measure, print tables, and write them into README.md if asked to."""

import argparse
import platform
import re
from collections.abc import Callable
from pathlib import Path

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import Reaper

from benchmarks import (
    cli,
    embedded,
    failover,
    partition,
    plugin,
    process,
    proxy,
    reset,
    start,
    traffic,
    workload,
)
from cachesim.backends.containers.engine import connect

SUBJECTS: dict[str, Callable[[int], str]] = {
    "start": start.run,
    "process": process.run,
    "cli": cli.run,
    "reset": reset.run,
    "partition": partition.run,
    "failover": failover.run,
    "traffic": traffic.run,
    "proxy": proxy.run,
    "plugin": plugin.run,
    "embedded": embedded.run,
    "workload": workload.run,
}
README = Path(__file__).with_name("README.md")


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=_count, default=10, help="turns that count; default: 10")
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="one subject; repeatable")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    parser.add_argument("--note", help="a remark to put above each table")
    arguments = parser.parse_args()

    if not testcontainers_config.ryuk_disabled:
        # Started here, so that its start does not count for the peer's first container.
        Reaper.get_instance()
    surroundings = _surroundings()
    for name in arguments.only or SUBJECTS:
        remark = f" {arguments.note}." if arguments.note else ""
        caption = f"Runs: {arguments.runs}. {surroundings}.{remark}"
        figures = f"{caption}\n\n{SUBJECTS[name](arguments.runs)}"
        print(f"\n## {name}\n\n{figures}", flush=True)
        if arguments.write:
            README.write_text(replaced(README.read_text(), name, figures))


def replaced(text: str, name: str, figures: str) -> str:
    """Return a text with new figures between the markers of a subject.

    Raises:
        ValueError: the text has no such markers.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"no {begin} with its {end}")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n\n{figures}\n\n{end}", text)


def _surroundings() -> str:
    engine = connect().client
    try:
        info = engine.info()
    finally:
        engine.close()
    return f"Docker {info['ServerVersion']} on {info['NCPU']} CPUs, {_python()}"


def _python() -> str:
    return f"Python {platform.python_version()}"


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("should be at least 1")
    return count


if __name__ == "__main__":
    main()
