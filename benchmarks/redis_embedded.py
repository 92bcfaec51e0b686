"""`python -m benchmarks.redis_embedded`: an embedded Redis node beside a real one and fakeredis's.

One client in a process of its own, as a service is. The embedded node has two replicas that follow
it, over TLS too; the others have none.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PIPELINE = 200


def _measure(options: dict[str, Any], seconds: float, results: Any) -> None:
    """Requests a second of one client: SET, GET, and SET in pipelines."""
    import redis

    client = redis.Redis(**options, protocol=2)
    value = "x" * 100

    def pipelined(number: int) -> int:
        with client.pipeline(transaction=False) as pipeline:
            for offset in range(PIPELINE):
                pipeline.set(f"k:{(number + offset) % 1000}", value)
            pipeline.execute()
        return PIPELINE

    def write(number: int) -> int:
        client.set(f"k:{number % 1000}", value)
        return 1

    def read(number: int) -> int:
        client.get(f"k:{number % 1000}")
        return 1

    for name, work in (("SET", write), ("GET", read), ("pipeline", pipelined)):
        done, begun = 0, time.perf_counter()
        while (taken := time.perf_counter() - begun) < seconds:
            done += work(done)
        results.put((name, done / taken))


def measured(options: dict[str, Any], seconds: float) -> dict[str, float]:
    """The figures of a server, taken by another process."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_measure, args=(options, seconds, results))
    process.start()
    figures = dict(results.get(timeout=60) for _ in range(3))
    process.join()
    return figures


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def embedded(profile: Path | None = None) -> Iterator[dict[str, Any]]:
    """Three embedded nodes over TLS, in a thread of this process; how to reach the primary.

    Args:
        profile: where to put a profile of that thread.
    """
    from cachesim.credentials import Credentials, acl_hash
    from cachesim.embedded.redis.config import NodeAddress, RedisNodeConfig, node_id
    from cachesim.embedded.redis.node import RedisNode
    from cachesim.embedded.tls import server_context
    from cachesim.tls import CertificateAuthority, client_context

    ca, credentials = CertificateAuthority(), Credentials()
    ready, done = threading.Event(), threading.Event()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ca.pem").write_bytes(ca.pem)
        addresses = {
            f"redis-{z}": NodeAddress(node_id("bench", z), "127.0.0.1", _free_port(), _free_port())
            for z in "abc"
        }
        users = {
            "default": f"on {acl_hash(credentials.token)} ~* &* +@all -config",
            "cachesim": f"on {acl_hash(credentials.admin_password)} ~* &* +@all",
        }

        async def serve() -> None:
            loop = asyncio.get_running_loop()
            nodes = []

            async def dial(factory: Any, peer: str, service: str) -> None:
                at = addresses[peer]
                port = at.port if service == "redis" else at.bus_port
                await loop.create_connection(factory, "127.0.0.1", port)

            for node, address in addresses.items():
                directory = folder / node
                directory.mkdir()
                config = RedisNodeConfig(
                    node,
                    node[-1],
                    directory,
                    addresses,
                    "redis-a",
                    users=users,
                    replication_user="cachesim",
                    replication_password=credentials.admin_password,
                    server_tls=server_context(ca.issue(node), directory),
                    peer_tls=client_context(ca.pem),
                )
                nodes.append(RedisNode(config, dial_peer=dial))
                await loop.create_server(nodes[-1].accept, "127.0.0.1", address.port)
                await loop.create_server(nodes[-1].accept_bus, "127.0.0.1", address.bus_port)
            for one in nodes:
                one.start()
            ready.set()
            await loop.run_in_executor(None, done.wait)
            for one in nodes:
                one.close()

        def run() -> None:
            if profile is None:
                asyncio.run(serve())
                return
            import cProfile

            with cProfile.Profile() as taken:
                asyncio.run(serve())
            taken.dump_stats(profile)

        thread = threading.Thread(target=run)
        thread.start()
        ready.wait()
        try:
            yield {
                "port": addresses["redis-a"].port,
                "password": credentials.token,
                "ssl": True,
                "ssl_ca_certs": str(folder / "ca.pem"),
            }
        finally:
            done.set()
            thread.join()


@contextlib.contextmanager
def real() -> Iterator[dict[str, Any]]:
    """A redis-server without TLS."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("there is no redis-server on the path to compare with")
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        words = ["--port", str(port), "--save", "", "--appendonly", "yes", "--dir", folder]
        server = subprocess.Popen([binary, *words], stdout=subprocess.DEVNULL)  # noqa: S603
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
            yield {"port": port}
        finally:
            server.kill()
            server.wait()


@contextlib.contextmanager
def fake() -> Iterator[dict[str, Any]]:
    """The server of fakeredis, without TLS."""
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", _free_port()))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield {"port": server.server_address[1]}
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="for each figure")
    parser.add_argument("--profile", type=Path, help="of the embedded nodes, for `pstats`")
    arguments = parser.parse_args()
    servers: dict[str, Any] = {"embedded, TLS": embedded, "redis-server": real, "fakeredis": fake}
    print(f"| server | SET/s | GET/s | SET/s, pipelines of {PIPELINE} |\n|---|---|---|---|")
    for name, server in servers.items():
        context = embedded(arguments.profile) if server is embedded else server()
        with context as options:
            figures = measured(options, arguments.seconds)
        row = (f"{figures[what]:,.0f}" for what in ("SET", "GET", "pipeline"))
        print(f"| {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
