"""The exceptions of cachesim.

::

    CachesimError
    ├── SettingsError           a setting is unknown, malformed or contradictory
    ├── StartError              the topology did not come up
    │   ├── BackendUnavailable  no container engine answers
    │   ├── ImageMissing        an image is neither here nor to be had
    │   ├── NameInUse           another living topology has this name
    │   ├── PortTaken           a port is in use
    │   └── NotReady            it came up, but was not ready in time
    ├── ToxiproxyError          Toxiproxy's API answered with an error, or not in time
    │   └── ToxiproxyTimeout
    ├── FaultError              a fault could not be applied or healed
    │   ├── InvalidFault        a fault, or a field of it, is wrong (also a ValueError)
    │   │   └── UnknownName     it names what the topology does not have (also a KeyError)
    │   └── NoPower             the node's zone has no power
    └── FailoverTimeout         no failover was completed in time (also a TimeoutError)
"""


class CachesimError(Exception):
    """Base of all errors that cachesim raises on purpose. The message says what to do next."""


class SettingsError(CachesimError):
    """A setting is unknown, malformed or contradicts another."""


class StartError(CachesimError):
    """The topology did not come up. What was created has been removed again."""


class BackendUnavailable(StartError):
    """No container engine answers."""


class ImageMissing(StartError):
    """A container image is neither present nor can it be pulled."""


class NameInUse(StartError):
    """Another living topology carries this name."""


class PortTaken(StartError):
    """A host port that the topology needs is in use."""


class NotReady(StartError):
    """A node was not ready in time. The message ends with the tail of its log.

    Attributes:
        node: the name of the node.
    """

    def __init__(self, message: str, node: str) -> None:
        super().__init__(message)
        self.node = node


class ToxiproxyError(CachesimError):
    """Toxiproxy's API refused a call.

    Attributes:
        status: the HTTP status, or None if no answer came.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ToxiproxyTimeout(ToxiproxyError):
    """Toxiproxy's API did not answer in time."""


class FaultError(CachesimError):
    """A fault could not be applied or healed."""


class InvalidFault(FaultError, ValueError):
    """A fault that nobody could apply: its name, a field or a field's value is wrong."""


class UnknownName(InvalidFault, KeyError):
    """A fault names a link, a node or a zone that the topology does not have."""

    __str__ = Exception.__str__  # KeyError's is the message's repr


class NoPower(FaultError):
    """The node cannot run: its zone has no power."""


class FailoverTimeout(CachesimError, TimeoutError):
    """No failover was completed in time. The message ends with the event log."""


def revived(kind: str, text: str) -> CachesimError:
    """An error that another process has raised, by its class's name and its message."""
    cls = globals().get(kind, CachesimError)
    if not (isinstance(cls, type) and issubclass(cls, CachesimError)):
        cls = CachesimError
    error: CachesimError = cls.__new__(cls, text)  # some take more than a message
    return error
