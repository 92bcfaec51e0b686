"""The base of emulated nodes: an emulated process that is started, killed, paused and restarted."""

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar, cast

from cachesim.aio.scheduler import Scheduler
from cachesim.aio.tls import TlsProtocol
from cachesim.embedded.answers import Answers, Rule
from cachesim.embedded.gate import Gate
from cachesim.errors import FaultError

_PER_REQUEST = 0.00002
"""Seconds of a processor that a request takes a server, TLS included."""


class Process(Protocol):
    """The emulated process of a node, with all state that a kill loses."""

    is_paused: bool

    def stop(self, *, orderly: bool) -> None:
        """End the process. Connections are reset, or if orderly closed when all is sent."""
        ...

    def pause(self) -> None:
        """Pause timers and work, as SIGSTOP does."""
        ...

    def resume(self) -> None:
        """Continue after `pause`."""
        ...


ProcessT = TypeVar("ProcessT", bound=Process)


class EmulatedNode(ABC, Generic[ProcessT]):
    """One node. Call its methods in the loop's thread.

    Args:
        server_tls: the TLS of connections to the node; None: plain TCP.
    """

    def __init__(
        self,
        name: str,
        server_tls: ssl.SSLContext | None,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.name = name
        self._server_tls = server_tls
        self._loop = loop or asyncio.get_running_loop()
        self._gate = Gate()
        self._scheduler = Scheduler(self._loop)
        self._server: ProcessT | None = None
        self.answers = Answers()

    @abstractmethod
    def _new_server(self) -> ProcessT:
        """Return a new process that has not begun yet."""

    @abstractmethod
    def _begin(self, server: ProcessT) -> None:
        """Begin the work of a new process."""

    @abstractmethod
    def logs(self, lines: int = 50) -> str:
        """Return the last lines of the node's log, across restarts."""

    @abstractmethod
    def accept(self) -> asyncio.Protocol:
        """Return the server's side of a new connection.

        Raises:
            ConnectionRefusedError: the node is not running.
        """

    # --- what faults make it answer -----------------------------------------------------------

    @abstractmethod
    def has_command(self, name: str) -> bool:
        """Return whether there is a command, by its name in lower case, or `client|list`."""

    def answer_with(self, rules: Sequence[Rule]) -> None:
        """Set the rules of its answers.

        Raises:
            FaultError: a rule is about a command that there is not.
        """
        unknown = sorted({it for rule in rules for it in rule.commands if not self.has_command(it)})
        if unknown:
            raise FaultError(f"{self.name} has no command {', '.join(unknown)}")
        self.answers.rules = rules
        self._answers_changed()

    def limit_cpu(self, share: float) -> None:
        """Leave it a share of its processor."""
        self.answers.take(_PER_REQUEST / share if share < 1 else 0.0)
        self._answers_changed()

    def _answers_changed(self) -> None:
        """Tell the process."""

    def use_certificate(self, tls: ssl.SSLContext) -> None:
        """Use another certificate for connections that are made from now on."""
        self._server_tls = tls

    # --- state and connections ----------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether the node has a process, paused or not."""
        return self._server is not None

    @property
    def is_paused(self) -> bool:
        """Whether the node's process is paused."""
        return self._server is not None and self._server.is_paused

    @property
    def server(self) -> ProcessT:
        """The process.

        Raises:
            ConnectionRefusedError: the node is not running.
        """
        if self._server is None:
            raise ConnectionRefusedError(f"{self.name} is not running")
        return self._server

    def accept_from_listener(self) -> asyncio.Protocol:
        """Accept a connection; if there is no process, reset it at once.

        This is for a listener that outlives the process. An exception would make asyncio leak the
        socket.
        """
        return self.accept() if self._server is not None else Refusal()

    def _accept(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        return self._gate.wrap(self._secured(protocol))

    def _secured(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """Wrap a protocol in the TLS of its clients, if they use it."""
        if self._server_tls is None:
            return protocol
        return TlsProtocol(self._server_tls, protocol, self._scheduler)

    # --- starting and ending ------------------------------------------------------------------

    def start(self) -> None:
        """Start the process. Idempotent."""
        if self._server is not None:
            return
        self._gate = Gate()
        self._scheduler = Scheduler(self._loop)
        self.answers.take(self.answers.cost)
        self._server = self._new_server()
        self._begin(self._server)

    def kill(self) -> None:
        """Kill the process, as SIGKILL does: connections are reset. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(orderly=False)
            self._gate.abort()
            self._scheduler.close()

    def shut_down(self) -> None:
        """End the process in an orderly way, as SIGTERM does. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(orderly=True)
            self._gate.end()
            self._scheduler.resume()

    async def shut_down_in_sync(self) -> None:
        """Do as `shut_down` when others have what only this process has, or don't take it."""
        self.shut_down()

    def pause(self) -> None:
        """Pause, as SIGSTOP does: connections stay open, new ones hang, nothing is answered."""
        if self._server is not None and not self._server.is_paused:
            self._server.pause()
            self._gate.shut()
            self._scheduler.pause()

    def resume(self) -> None:
        """Continue, as SIGCONT does."""
        if self._server is not None and self._server.is_paused:
            self._server.resume()
            self._gate.open()
            self._scheduler.resume()

    def close(self) -> None:
        """Kill the process, and release the node's resources."""
        self.kill()


class Refusal(asyncio.Protocol):
    """Resets a connection to a node without a process."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reset the connection."""
        cast(asyncio.Transport, transport).abort()
