"""The exceptions of cachesim.

::

    CachesimError
    ├── SettingsError           a setting is unknown, malformed or contradictory
    ├── InvalidScenario         a scenario file has mistakes (also a ValueError)
    ├── InvalidArgument         an argument is wrong (also a ValueError)
    ├── StartError              the topology did not come up
    │   ├── BackendUnavailable  no Docker engine answers
    │   ├── ImageMissing        a container image is missing and cannot be pulled
    │   ├── NameInUse           another running topology has this name
    │   ├── PortTaken           a port is in use
    │   └── NotReady            a node was not ready in time
    ├── NotRunning              the topology is not up, or this process is a fork
    ├── Leased                  another process has the lease of the topology
    ├── ToxiproxyError          a call of Toxiproxy's API failed
    │   └── ToxiproxyTimeout    it did not answer in time
    ├── FaultError              a fault, a failover or a reset failed
    │   ├── InvalidFault        a fault, or a field of it, is wrong (also a ValueError)
    │   │   └── UnknownName     a link, node or zone is unknown (also a KeyError)
    │   └── NoPower             the node's zone has no power
    ├── WaitTimeout             what was waited for did not come in time (also a TimeoutError)
    │   ├── FailoverTimeout     no failover completed in time
    │   └── AlarmTimeout        an alarm did not get into a state in time
    └── WorkloadError           the workload of a run could not begin, or failed
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class CachesimError(Exception):
    """The base of all errors that cachesim raises on purpose. Messages say what to do next."""


class SettingsError(CachesimError):
    """A setting is unknown, malformed or contradictory."""


class Problem(NamedTuple):
    """One mistake in a file.

    Attributes:
        file: its name.
        line: from 1.
        column: from 1.
        key: where it is in the file's values, such as `timeline[0].target.node`; empty for all.
        message: what is wrong, with the nearest valid value if there is one.
    """

    file: str
    line: int
    column: int
    key: str
    message: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.file}:{self.line}:{self.column}: {key}{self.message}"


class InvalidScenario(CachesimError, ValueError):
    """A scenario file has mistakes. The message has one a line, in the order of the file.

    Attributes:
        problems: all of them.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class InvalidArgument(CachesimError, ValueError):
    """An argument of a call is wrong."""


class StartError(CachesimError):
    """The topology did not come up. Nothing is left, or `cachesim gc` removes it."""


class BackendUnavailable(StartError):
    """No Docker engine answers."""


class ImageMissing(StartError):
    """A container image is missing and cannot be pulled."""


class NameInUse(StartError):
    """Another running topology has this name."""


class PortTaken(StartError):
    """A host port that the topology needs is in use."""


class NotReady(StartError):
    """A node was not ready in time. During a start, the message shows the node's last log lines.

    Attributes:
        node: the name of the node.
    """

    def __init__(self, message: str, node: str) -> None:
        super().__init__(message)
        self.node = node


class NotRunning(CachesimError):
    """The topology was not started, was stopped, or belongs to a process that forked this one."""


class Leased(CachesimError):
    """Another process, such as a test run, has the lease of the topology."""


class ToxiproxyError(CachesimError):
    """A call of Toxiproxy's API failed.

    Attributes:
        status: the HTTP status, or None if there was no valid answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ToxiproxyTimeout(ToxiproxyError):
    """Toxiproxy's API did not answer in time."""


class FaultError(CachesimError):
    """A fault, a failover or a reset failed."""


class InvalidFault(FaultError, ValueError):
    """A fault is invalid: its name, a field or a field's value is wrong."""


class UnknownName(InvalidFault, KeyError):
    """A fault names a link, a node or a zone that the topology does not have."""

    __str__ = Exception.__str__  # KeyError's returns the message's repr


class NoPower(FaultError):
    """A node cannot be started: its zone has no power."""


class WaitTimeout(CachesimError, TimeoutError):
    """What was waited for did not come in time. The message says what is in its way."""


class FailoverTimeout(WaitTimeout):
    """No failover completed in time. The message ends with the event log."""


class AlarmTimeout(WaitTimeout):
    """An alarm did not get into a state in time. The message says in which state it is, and why."""


class WorkloadError(CachesimError):
    """The workload of a run could not begin, or a user's function or command failed."""


def as_json(error: Exception) -> dict[str, Any]:
    """Return an error for another process, which gets it back with `revived`."""
    ours = isinstance(error, CachesimError) or type(error) in (ValueError, KeyError)
    text = str(error.args[0] if error.args else "") if ours else repr(error)
    return {"kind": type(error).__name__, "text": text, "attributes": vars(error) if ours else {}}


def revived(data: Mapping[str, Any]) -> Exception:
    """Return an error that another process raised.

    It is of its own class if that is one of cachesim's, ValueError or KeyError, else a
    CachesimError.

    Args:
        data: what `as_json` returned.
    """
    cls = {"ValueError": ValueError, "KeyError": KeyError, **globals()}.get(data["kind"])
    if not (isinstance(cls, type) and issubclass(cls, CachesimError | ValueError | KeyError)):
        cls = CachesimError
    error = cls.__new__(cls, data["text"])  # some constructors take more than a message
    vars(error).update(data["attributes"])
    return error
