"""The topologies of this user on this machine, and finding one by name."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from cachesim.errors import CachesimError
from cachesim.runs import directory, env
from cachesim.runs.owner import Owner
from cachesim.topology import Endpoint


@dataclass(frozen=True)
class Run:
    """A run that this user has started on this machine, and in this pid namespace.

    Attributes:
        name: the topology's name.
        folder: the folder with its files.
        owner: the process that owns the topology.
    """

    name: str
    folder: Path
    owner: Owner

    def env(self, *, secrets: bool = False) -> dict[str, str] | None:
        """Return the variables that a service reads; None if the topology is not up.

        Args:
            secrets: whether to include the password, and the URL that has it.
        """
        try:
            variables: dict[str, str] = json.loads((self.folder / directory.ENV).read_bytes())
            if secrets:
                token = (self.folder / directory.TOKEN).read_text()
                node = Endpoint(variables[env.REDIS_HOST], int(variables[env.REDIS_PORT]))
                url = env.redis_url(variables[env.REDIS_USERNAME], token, node)
                variables |= {env.REDIS_PASSWORD: token, env.REDIS_URL: url}
        except FileNotFoundError:
            return None
        return variables

    @property
    def takes_calls(self) -> bool:
        """Whether its process answers calls, unless it hangs."""
        return (self.folder / directory.ADDRESS).exists()

    @property
    def holder(self) -> str | None:
        """Who has the lease, such as `process 7`; None: nobody."""
        return self._read(directory.LEASE)

    @property
    def user(self) -> str | None:
        """The process that has it for itself, such as `process 7`; None: it is of `cachesim up`."""
        return self._read(directory.USER)

    def _read(self, name: str) -> str | None:
        try:
            return (self.folder / name).read_text()
        except OSError:
            return None


def living_runs() -> list[Run]:
    """Return the runs whose process lives, by name."""
    return [run for run in _runs() if not run.owner.is_gone]


def dead_runs() -> list[Run]:
    """Return the runs whose process ended without taking them down, by name."""
    return [run for run in _runs() if run.owner.is_gone]


def find_run(name: str | None) -> Run:
    """Return the run of a topology that is up.

    Args:
        name: the topology's name; None: the one in the settings, or else the only one of
            `cachesim up` that nobody has leased.

    Raises:
        CachesimError: none is up, the named one is not up, or several are.
    """
    source = "argument"
    if name is None:
        from cachesim.settings import load_settings  # slow to import, and seldom needed

        loaded = load_settings()
        name, source = loaded.settings.name, loaded.sources["name"]
    living = {run.name: run for run in living_runs()}
    found = {run.name: run for run in living.values() if run.env() is not None}
    running = ", ".join(found)
    free = [run for run in found.values() if run.user is None and run.holder is None]
    if name is None and len(free) == 1:
        return free[0]
    if name in found:
        return found[name]
    for run in [] if name is None and found else [*living.values(), *dead_runs()]:
        if name in (None, run.name):
            raise CachesimError(ended(run) if run.owner.is_gone else starting(run))
    if not found:
        raise CachesimError("no topology is up. Start one with `cachesim up`.")
    if name is None and free:
        names = ", ".join(run.name for run in free)
        raise CachesimError(f"several topologies are up: choose one with --name: {names}")
    if name is None:
        raise CachesimError(
            f"no topology is free: {'; '.join(map(_use, found.values()))}. Choose one with --name, "
            "or start another with `cachesim up`."
        )
    raise CachesimError(
        f"no topology named {name!r} ({source}) is up, but these are: {running}. "
        f"Choose one with --name, or start another with `cachesim up --name {name}`."
    )


def ended(run: Run) -> str:
    """Return what to do about a run whose process has ended."""
    if (run.env() or {}).get(env.BACKEND) == "compose":
        return (
            f"the process that was attached to topology {run.name!r} (pid {run.owner.pid}) has "
            "ended without healing it. `cachesim attach`, with the same folder, heals it."
        )
    return (
        f"the process of topology {run.name!r} (pid {run.owner.pid}) has ended without taking it "
        "down. `cachesim gc` removes what it left; `cachesim up` starts another topology."
    )


def not_running(name: str) -> str:
    """Return what to do about a topology of this process that does not run."""
    return (
        f"the topology {name!r} is not running: it was not started yet, or was stopped. Call "
        "`start()`, or enter the simulator as a context manager."
    )


def _use(run: Run) -> str:
    """Return what a run is used for that is no candidate without a name."""
    if run.holder is not None:
        return f"{run.name!r} is leased by {run.holder}"
    return f"{run.name!r} belongs to {run.user}, such as a test run or a script"


def starting(run: Run) -> str:
    """Return what to do about a run that is not up yet."""
    return (
        f"topology {run.name!r} is not up: process {run.owner.pid} is still starting it, or taking "
        "it down. `cachesim status` shows when it is up."
    )


def remove_dead_runs() -> list[str]:
    """Remove the files of runs whose process has ended.

    Returns:
        Their names.
    """
    dead = dead_runs()
    for run in dead:
        directory.remove(run.folder)
    for root in filter(directory.is_ours, directory.roots()):
        with contextlib.suppress(OSError), directory.locked(root) as is_locked:
            for folder in directory.folders_in(root) if is_locked else ():
                # Its creator writes the owner before it unlocks. So this creator was killed.
                if _owner(folder) is None:
                    directory.remove(folder)
    return [run.name for run in dead]


def _runs() -> list[Run]:
    here = Owner.current().host
    runs = []
    for folder in directory.folders():
        owner = _owner(folder)
        if owner is not None and owner.host == here:
            runs.append(Run(folder.name.rpartition("-")[0], folder, owner))
    return sorted(runs, key=lambda run: run.name)


def _owner(folder: Path) -> Owner | None:
    """Return a run's owner; None if it is not a run, or is just being removed.

    Raises:
        OSError: the file can't be read, such as for too many open files. It may be a living run.
    """
    try:
        return Owner.parse((folder / directory.OWNER).read_text())
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
