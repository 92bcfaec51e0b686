"""The programs of this folder: building them, running them, and reading their output."""

import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from cachesim.clock import Deadline

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Recipe:
    """How a program comes to run; commands are run in a copy of its folder.

    Attributes:
        source: what the how-to shows pieces of.
        tools: what has to be installed.
        run: the command that runs it.
        build: the command that builds it; none for a script.
        variables: for the build, beside this process's own.
    """

    source: str
    tools: Sequence[str]
    run: Sequence[str]
    build: Sequence[str] = ()
    variables: Mapping[str, str] | None = None


RECIPES = {
    "redis-cli": Recipe(
        source="counter",
        tools=("redis-cli", "bash", "timeout"),
        run=("bash", "counter"),
    ),
    "ioredis": Recipe(
        source="counter.js",
        tools=("node", "npm"),
        build=("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"),
        run=("node", "counter.js"),
    ),
    "go-redis": Recipe(
        source="counter.go",
        tools=("go",),
        build=("go", "build", "-o", "counter", "."),
        variables={"CGO_ENABLED": "0"},  # no C compiler needed
        run=("./counter",),
    ),
    "jedis": Recipe(
        source="src/main/java/Counter.java",
        tools=("java", "mvn"),
        build=("mvn", "-q", "-B", "package"),
        run=("java", "-cp", "target/counter-1.jar:target/dependency/*", "Counter"),
    ),
}


class NotBuilt(Exception):
    """What keeps a program from being built here."""


def build(name: str, folder: Path) -> None:
    """Build a program outside the work tree.

    Args:
        name: one of `RECIPES`.
        folder: where its copy goes; must not exist.

    Raises:
        NotBuilt: a tool is missing, or the build failed (there may be no network).
    """
    recipe = RECIPES[name]
    if missing := [tool for tool in recipe.tools if shutil.which(tool) is None]:
        raise NotBuilt(f"the {name} program needs {', '.join(missing)}")
    # Without what an editor or a build by hand has left there.
    shutil.copytree(
        HERE / name, folder, ignore=shutil.ignore_patterns("node_modules", "target", ".*")
    )
    if recipe.build:
        result = subprocess.run(
            recipe.build,
            cwd=folder,
            env={**os.environ, **(recipe.variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        if result.returncode:
            raise NotBuilt(f"{' '.join(recipe.build)} failed:\n{result.stdout[-3000:]}")


@dataclass(frozen=True)
class Line:
    """A line that a program has printed.

    Attributes:
        at: monotonic seconds.
        text: the line.
    """

    at: float
    text: str


class Program:
    """A program that runs; a context manager, whose end it does not outlive.

    Args:
        name: one of `RECIPES`.
        folder: where it was built.
        variables: its environment, but for the PATH.
        arguments: its arguments.
    """

    def __init__(
        self, name: str, folder: Path, variables: Mapping[str, str], arguments: Sequence[str] = ()
    ) -> None:
        self._process = subprocess.Popen(
            [*RECIPES[name].run, *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # what the library logs
            text=True,
            start_new_session=True,  # so that what a script has started can be ended too
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin = self._process.stdin
        self._lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read, args=[self._process.stdout])
        self._reader.start()

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self._lines.put(Line(time.monotonic(), line.rstrip()))
        self._lines.put(None)

    def wait_for(self, word: str, seconds: float, after: float = 0.0) -> Line:
        """Wait for a line that begins with a word.

        Args:
            word: the line's first word.
            seconds: how long to wait at most.
            after: earlier lines don't count, in monotonic seconds.
        """
        deadline = Deadline(seconds)
        while True:
            try:
                line = self._lines.get(timeout=deadline.remaining)
            except queue.Empty:
                line = None
            said = "\n".join(self._said)
            assert line is not None, f"no {word!r} within {seconds} s, or an early end:\n{said}"
            self._said.append(line.text)
            if line.at > after and line.text.partition(" ")[0] == word:
                return line

    def stop(self) -> None:
        """Tell it to end."""
        self._stdin.close()

    def exit_code(self, seconds: float) -> int:
        """Its exit code, for which one waits so many seconds at most."""
        return self._process.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._stdin.close()
        self._reader.join()
