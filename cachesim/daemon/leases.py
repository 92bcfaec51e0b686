"""The lease: one client has the topology, and the others may only look."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from cachesim.control_plane.states import State
from cachesim.daemon.operations import Operations
from cachesim.daemon.restoring import Restorer
from cachesim.daemon.server import Caller, Hangup
from cachesim.errors import CachesimError, FaultError, Leased, SettingsError
from cachesim.settings import CHANGEABLE, Settings

_CHANGEABLE = (*CHANGEABLE, "start_timeout_seconds")
_VERB = 60.0  # seconds for the verbs that others began before: a reset takes up to 30 s


class Leases:
    """Gives the lease to one client at a time, and restores the topology after it.

    Args:
        save_holder: tells other processes who has the lease; None: nobody.
    """

    def __init__(
        self, operations: Operations, restorer: Restorer, save_holder: Callable[[str | None], None]
    ) -> None:
        self._operations = operations
        self._restorer = restorer
        self._save_holder = save_holder
        self._name = operations.provision.name
        self._lock = threading.Lock()
        self._verb_ended = threading.Condition(self._lock)
        self._verbs = 0  # in progress
        self._caller: Caller | None = None
        self._since = 0.0
        self._is_ending = False

    @property
    def holder(self) -> str | None:
        """The process that has the lease, such as `process 7`."""
        caller = self._caller
        return None if caller is None else f"process {caller.pid}"

    @contextlib.contextmanager
    def verb(self, caller: Caller) -> Iterator[None]:
        """Let the caller change the topology inside the context. A new lease waits for its end.

        Raises:
            Leased: another client has the lease.
        """
        with self._lock:
            leased = self._caller
            if leased is not None and leased.client != caller.client:
                raise Leased(f"{self._told()}: wait until that ends, or end it")
            self._verbs += 1
        try:
            yield
        finally:
            with self._lock:
                self._verbs -= 1
                self._verb_ended.notify_all()

    def check_down(self, caller: Caller) -> None:
        """Do nothing if the caller may take the topology down.

        Raises:
            Leased: another client has the lease.
        """
        leased = self._caller
        if leased is not None and leased.client != caller.client and not self._is_ending:
            raise Leased(
                f"{self._told()}: wait until that ends, or end it. `cachesim down --name "
                f"{self._name} --force` takes the topology down anyway."
            )

    def take(self, caller: Caller, settings: Mapping[str, Any]) -> None:
        """Give the lease to a caller.

        Args:
            settings: the settings that the caller wants, by name.

        Raises:
            Leased: another client has it.
            FaultError: a fault, a failover, or a verb or a suspension of another client is active.
            SettingsError: a setting can't be changed while the topology runs.
            Hangup: the caller has hung up meanwhile.
        """
        with self._lock:
            if self._caller is not None:
                raise Leased(
                    f"{self._told()} already: wait until that ends, or start another topology with "
                    "`cachesim up -d --name ...`."
                )
            chosen = self._adopted(settings)
            # From here on other clients' verbs are refused; those that had begun come to their end.
            self._caller, self._since, self._is_ending = caller, time.monotonic(), False
            try:
                self._verb_ended.wait_for(lambda: not self._verbs, _VERB)
                self._check_idle()
                self._check_not_suspended(caller)
                if caller.has_hung_up:  # the end of its lease would empty the topology
                    raise Hangup
            except BaseException:
                self._caller = None
                raise
            own = self._operations.provision.seed
            self._operations.adopt(chosen, own if chosen.seed is None else chosen.seed)
            self._save_holder(self.holder)
            self._operations.events.record("leased", self._name, f"by {self.holder}")

    def end(self, caller: Caller, *, returned: bool) -> None:
        """End the lease of a connection, if it has it: heal the topology, or reset it.

        Args:
            returned: whether the client has returned it; otherwise the client is gone.

        Raises:
            CachesimError: the topology could not be restored. The lease has ended.
        """
        with self._lock:
            if self._caller is not caller or self._is_ending:
                return
            self._is_ending = True
        how = "by its holder" if returned else "as its holder has ended"
        try:
            self._restore(reset=not returned)
        except Exception as error:
            how += f", but not restored: {error}. `cachesim reset` may help"
            raise
        finally:
            with self._lock:
                self._caller = None
                self._save_holder(None)
                self._operations.events.record("returned", self._name, how)

    def _restore(self, *, reset: bool) -> None:
        it = self._operations
        # Verbs of the holder that are in progress come to their end before, or wait.
        with it.control_plane.suspended(), it.faults.suspended():
            if reset:
                with contextlib.suppress(CachesimError):  # the reset says what is wrong
                    self._restorer.start_nodes()
                it.adopt(it.provision.settings, it.provision.seed)
                self._restorer.reset()
            else:
                primaries = self._restorer.make_healthy()
                it.adopt(it.provision.settings, it.provision.seed, primaries)

    def _adopted(self, asked: Mapping[str, Any]) -> Settings:
        """Return the topology's settings with those that a client asks for."""
        theirs = self._operations.provision.settings
        given = {key: value for key, value in asked.items() if value is not None}
        wanted = Settings.model_validate(theirs.model_dump() | given)
        for key in given:
            mine, owners = getattr(wanted, key), getattr(theirs, key)
            if key not in _CHANGEABLE and mine not in (owners, "auto"):
                raise SettingsError(
                    f"{key} = {mine!r}: the topology {self._name!r} runs with {owners!r}. Leave it "
                    "out, or start another with `cachesim up -d --name ...`."
                )
        chosen = {key: getattr(wanted, key) for key in given if key in _CHANGEABLE}
        return theirs.model_copy(update=chosen)

    def _check_idle(self) -> None:
        """Raise FaultError if a verb, a fault or a failover is active."""
        if self._verbs:
            raise FaultError(f"another process is changing the topology {self._name!r}: try again.")
        if active := self._operations.faults.active:
            raise FaultError(
                f"the topology {self._name!r} has faults ({active[0]}): "
                f"`cachesim heal --name {self._name}` first."
            )
        for shard in self._operations.control_plane.shards.values():
            if shard.state is not State.AVAILABLE:
                raise FaultError(
                    f"the topology {self._name!r} is {shard.state}: wait until `cachesim status` "
                    f"says {State.AVAILABLE}, or `cachesim reset --name {self._name}`."
                )

    def _check_not_suspended(self, caller: Caller) -> None:
        """Raise FaultError if another client has suspended the control plane."""
        for holder in self._operations.control_plane.suspended_by:
            other = cast(Caller, holder)  # all others are verbs, and none is in progress
            if other.client != caller.client:
                raise FaultError(
                    f"process {other.pid} has suspended the control plane of the topology "
                    f"{self._name!r}: wait until that ends, or end it."
                )

    def _told(self) -> str:
        seconds = time.monotonic() - self._since
        return f"the topology {self._name!r} has been leased by {self.holder} for {seconds:.0f} s"
