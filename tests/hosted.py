"""A topology whose daemon's side is in this process, for tests that need what is inside it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cachesim import Simulator
from cachesim.clock import Deadline
from cachesim.daemon import provisioning
from cachesim.daemon.operations import Operations
from cachesim.daemon.provisioning import Provider
from cachesim.daemon.readiness import wait_through_links
from cachesim.daemon.server import Server
from cachesim.daemon.service import Answers
from cachesim.events import EventLog
from cachesim.settings import load_settings


@dataclass(frozen=True)
class Hosted:
    """A running topology.

    Attributes:
        sim: its client, which has the lease.
        operations: what operates it.
    """

    sim: Simulator
    operations: Operations


@contextlib.contextmanager
def hosted(name: str, **settings: Any) -> Iterator[Hosted]:
    """Start a topology in this process, and take it down."""
    chosen = load_settings(settings).settings
    with _served(partial(provisioning.start, name, chosen, chosen.seed or 7)) as it:
        yield it


@contextlib.contextmanager
def hosted_composed(folder: Path, **settings: Any) -> Iterator[Hosted]:
    """Take over in this process what `docker compose` has brought up."""
    from cachesim.backends.compose.backend import ComposeBackend

    chosen = load_settings(settings).settings
    compose = ComposeBackend(folder, chosen.start_timeout_seconds)
    chosen = chosen.model_copy(update=compose.composed.settings)
    provide = partial(
        provisioning.take_over_composed, compose, chosen.name or folder.name, chosen, 7
    )
    with _served(provide) as it:
        yield it


@contextlib.contextmanager
def _served(provide: Provider) -> Iterator[Hosted]:
    with contextlib.ExitStack() as life:
        it = provide(lambda _: None, life)
        wait_through_links(it, Deadline(it.settings.start_timeout_seconds))
        operations = Operations(it, EventLog())
        life.callback(operations.close)
        server = Server(it.files.folder, Answers(operations, _Life()))
        life.callback(server.close)
        it.files.save_env(it.env())
        with Simulator.attach(it.name) as sim:
            yield Hosted(sim, operations)


class _Life:
    """The life of a process that does not end with its topology."""

    owner: str | None = None
    requested = False

    def detach(self) -> None:
        """Do nothing."""

    def request(self) -> None:
        """Do nothing."""

    def wait_taken_down(self) -> None:
        """Do nothing."""
