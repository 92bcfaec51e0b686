"""A topology that outlives the shell that started it: `cachesim up -d`, `cachesim attach`.

`launch` starts this module as a process of its own. It gets its settings on stdin, reports on
stdout until the topology is up, and then leaves the terminal alone.
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

_TAIL = 2000  # bytes of what a process that failed has said


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
        arguments: settings by name; None is not given.
        progress: shows the steps of the start.
        folder: of `cachesim compose`, whose containers are to be the topology.

    Raises:
        CachesimError: it did not come up, and nothing is left behind.
    """
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "cachesim.daemon.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,  # neither Ctrl-C nor the terminal's end is meant for it
        ) as process,
    ):
        try:
            # After it, as it has imports of its own to do; here, so that the file is the caller's.
            from cachesim.settings import load_settings

            order = {
                "settings": load_settings(arguments).settings.model_dump(mode="json"),
                "folder": None if folder is None else str(folder),
            }
            with progress() as step:
                name = _follow(process, order, step)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                last_deed = "Taking everything down." if folder is None else "Letting go of it."
                print(last_deed, file=sys.stderr, flush=True)
            process.terminate()  # it takes down what it has
            process.wait()
            raise
        if name is None:
            process.wait()
            complaints.seek(max(0, complaints.tell() - _TAIL))
            last_words = complaints.read().decode(errors="replace").strip()
            raise StartError(
                f"the process that was to carry the topology ended with {process.returncode}"
                f"{f', after: {last_words}' if last_words else ''}. `cachesim gc` removes what it "
                "may have left."
            )
        process.returncode = 0  # it is left to itself, not to be waited for
    return find_run(name)


def _follow(
    process: "subprocess.Popen[bytes]", order: Mapping[str, object], progress: "Progress"
) -> str | None:
    """Returns the topology's name when it is up, None if the process has ended without a word."""
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
    """Carry the topology that stdin asks for."""
    # Before the order is there: it takes as long as the settings take to be read.
    from cachesim.daemon.lifetime import carry, wait
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
        return carry(make, _reporting, detach)
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
        raise StartError("whoever started this is gone") from error


def _leave_terminal(sim: "Simulator") -> None:
    with Path(os.devnull).open("rb") as nothing, sim.files.log.open("ab") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


if __name__ == "__main__":
    sys.exit(main())
