"""What every emulated node is: a process that can be started, killed, frozen, and started again."""

import asyncio
import ssl
from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar, cast

from cachesim.aio.scheduler import Scheduler
from cachesim.aio.tls import TlsProtocol
from cachesim.embedded.gate import Gate


class Process(Protocol):
    """What is gone when a node is killed."""

    is_paused: bool

    def stop(self, *, orderly: bool) -> None:
        """End. Connections are reset, or closed when everything is sent."""
        ...

    def pause(self) -> None:
        """Stand still."""
        ...

    def resume(self) -> None:
        """Go on."""
        ...


ProcessT = TypeVar("ProcessT", bound=Process)


class EmulatedNode(ABC, Generic[ProcessT]):
    """One node. All methods are for the loop's thread.

    Args:
        server_tls: for connections to the node; None for plain ones.
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

    @abstractmethod
    def _new_server(self) -> ProcessT:
        """A process, which `_begin` lets begin."""

    @abstractmethod
    def _begin(self, server: ProcessT) -> None:
        """Let a new process begin."""

    @abstractmethod
    def logs(self, lines: int = 50) -> str:
        """The tail of its log, across processes."""

    @abstractmethod
    def accept(self) -> asyncio.Protocol:
        """The server's side of a new connection.

        Raises:
            ConnectionRefusedError: it is not running.
        """

    # --- what it does -------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether there is a process, frozen or not."""
        return self._server is not None

    @property
    def is_paused(self) -> bool:
        """Whether its process stands still."""
        return self._server is not None and self._server.is_paused

    @property
    def server(self) -> ProcessT:
        """The process.

        Raises:
            ConnectionRefusedError: there is none.
        """
        if self._server is None:
            raise ConnectionRefusedError(f"{self.name} is not running")
        return self._server

    def accept_from_listener(self) -> asyncio.Protocol:
        """As `accept`, for a listener that outlives the process: without one, it closes at once.

        An exception would let asyncio leak the socket.
        """
        return self.accept() if self._server is not None else Refusal()

    def _accept(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        if self._server_tls is not None:
            protocol = TlsProtocol(self._server_tls, protocol, self._scheduler)
        return self._gate.wrap(protocol)

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process. Harmless if it runs."""
        if self._server is not None:
            return
        self._gate = Gate()
        self._scheduler = Scheduler(self._loop)
        self._server = self._new_server()
        self._begin(self._server)

    def kill(self) -> None:
        """SIGKILL: connections are reset. Harmless if it is dead."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(orderly=False)
            self._gate.abort()
            self._scheduler.close()

    def shut_down(self) -> None:
        """An orderly end. Harmless if it is dead."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(orderly=True)
            self._gate.end()
            self._scheduler.resume()

    def pause(self) -> None:
        """SIGSTOP: connections stay, new ones hang, nothing is answered."""
        if self._server is not None and not self._server.is_paused:
            self._server.pause()
            self._gate.shut()
            self._scheduler.pause()

    def resume(self) -> None:
        """SIGCONT."""
        if self._server is not None and self._server.is_paused:
            self._server.resume()
            self._gate.open()
            self._scheduler.resume()

    def close(self) -> None:
        """End for good."""
        self.kill()


class Refusal(asyncio.Protocol):
    """Nobody is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reset it."""
        cast(asyncio.Transport, transport).abort()
