"""Runs a topology in a process of its own: `cachesim up -d`, `cachesim attach`.

`launch` starts this module as that process. It reads its settings from stdin, reports on stdout
until the topology is up, and then detaches from the terminal.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cachesim.errors import CachesimError, StartError, revived
from cachesim.runs.registry import Run, find_run

if TYPE_CHECKING:
    from cachesim.backends.base import Progress
    from cachesim.daemon.signals import Interrupts
    from cachesim.simulator.simulator import Simulator

_TAIL = 2000  # bytes of the error output of a process that failed


@contextlib.contextmanager
def _silently() -> "Iterator[Progress]":
    yield lambda _line: None


def launch(
    arguments: Mapping[str, object],
    progress: "Callable[[], contextlib.AbstractContextManager[Progress]]" = _silently,
    folder: Path | None = None,
) -> Run:
    """Start a detached topology, and return when it is ready.

    Args:
        arguments: settings by name; None means not given.
        progress: shows the steps of the start.
        folder: the folder of `cachesim compose` to attach to; None: start a topology.

    Raises:
        CachesimError: the topology did not start, and nothing is left behind.
    """
    with (
        tempfile.TemporaryFile() as stderr,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "cachesim.daemon.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # so Ctrl-C and closing the terminal do not reach it
        ) as process,
    ):
        try:
            # Read here, so that the settings file is the caller's; and now, while the new process
            # imports its modules.
            from cachesim.settings import load_settings

            order = {
                "settings": load_settings(arguments).settings.model_dump(mode="json"),
                "folder": None if folder is None else str(folder),
            }
            with progress() as step:
                name = _follow(process, order, step)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                done = "Taking everything down." if folder is None else "Detaching from it."
                print(done, file=sys.stderr, flush=True)
            process.terminate()  # it then takes everything down, or detaches
            process.wait()
            raise
        if name is None:
            process.wait()
            stderr.seek(max(0, stderr.tell() - _TAIL))
            tail = stderr.read().decode(errors="replace").strip()
            raise StartError(
                f"the topology's process ended with exit code {process.returncode} during the start"
                f"{f', after: {tail}' if tail else ''}. `cachesim gc` removes what it may have "
                "left."
            )
        process.returncode = 0  # from now on it is not waited for
    return find_run(name)


def _follow(
    process: "subprocess.Popen[bytes]", order: Mapping[str, object], progress: "Progress"
) -> str | None:
    """Wait until the topology is up.

    Returns:
        Its name; None if the process ended and reported nothing.
    """
    with contextlib.suppress(OSError), _pipe(process.stdin) as stdin:
        stdin.write(json.dumps(order).encode())
    for line in _pipe(process.stdout):
        report = json.loads(line)
        if "step" in report:
            progress(report["step"])
        elif "error" in report:
            process.wait()
            raise revived(report["kind"], report["error"])
        else:
            return str(report["ready"])
    return None


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the process was started without pipes")
    return pipe


def main() -> int:
    """Run the topology that stdin describes."""
    # Imported before stdin is read, while the caller reads the settings.
    from cachesim.daemon.lifetime import run, wait
    from cachesim.settings import Settings
    from cachesim.simulator.simulator import Simulator

    order = json.load(sys.stdin)

    def make() -> Simulator:
        settings = Settings.model_validate(order["settings"])
        if order["folder"] is not None:
            return Simulator.attach_composed(Path(order["folder"]), settings)
        return Simulator(settings)

    def detach(sim: "Simulator", interrupts: "Interrupts") -> None:
        _report(ready=sim.name)
        _leave_terminal(sim)
        wait(sim, interrupts)

    try:
        return run(make, _reporting, detach)
    except CachesimError as error:
        with contextlib.suppress(StartError):
            _report(error=str(error), kind=type(error).__name__)
        return 1


@contextlib.contextmanager
def _reporting() -> Iterator[Callable[[str], None]]:
    yield lambda line: _report(step=line)


def _report(**what: str) -> None:
    try:
        print(json.dumps(what), flush=True)
    except OSError as error:
        raise StartError("the process that started this one has ended") from error


def _leave_terminal(sim: "Simulator") -> None:
    with Path(os.devnull).open("rb") as nothing, sim.files.log.open("ab") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


if __name__ == "__main__":
    sys.exit(main())
