"""Serves the page of a topology on a port of 127.0.0.1."""

import contextlib
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cachesim.errors import CachesimError

if TYPE_CHECKING:
    import uvicorn

    from cachesim.simulator.simulator import Simulator

_STARTING = 10.0  # seconds
_ENDING = 5.0  # seconds
EXTRA = "the web page needs more packages: pip install 'cachesim[web]'"


@contextlib.contextmanager
def served(sim: "Simulator", port: int = 0) -> Iterator[str]:
    """Serve the page in a thread, and yield its URL, which has the token.

    Args:
        sim: a topology that runs.
        port: 0: a free one.

    Raises:
        CachesimError: packages are missing, or the port is taken.
    """
    try:
        import uvicorn

        from cachesim.dashboard.app import Dashboard
    except ImportError as error:
        raise CachesimError(f"{EXTRA} ({error})") from error
    with contextlib.closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            why = f"port {port} of 127.0.0.1: {error.strerror}. Choose another."
            raise CachesimError(why) from error
        token, port = secrets.token_urlsafe(24), listener.getsockname()[1]
        dashboard = Dashboard(sim)
        config = uvicorn.Config(
            dashboard.application(token, port),
            loop="asyncio", http="h11", ws="none", lifespan="off",
            log_config=None, access_log=False,  # the URL has the token
            server_header=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(
            target=server.run, args=([listener],), name="cachesim-dashboard", daemon=True
        )
        thread.start()
        try:
            _wait_started(server, thread)
            yield f"http://127.0.0.1:{port}/?token={token}"
        finally:
            dashboard.end("The dashboard has ended.")
            server.should_exit = True
            thread.join(_ENDING)


def _wait_started(server: "uvicorn.Server", thread: threading.Thread) -> None:
    waiting = threading.Event()
    for _ in range(round(_STARTING / 0.01)):
        if server.started or not thread.is_alive():
            break
        waiting.wait(0.01)
    if not server.started:
        raise CachesimError("the web page's server does not start")
