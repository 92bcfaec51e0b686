"""A prompt for one node, through its client link: `cachesim shell`."""

import contextlib
import os
import select
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from cachesim.errors import CachesimError
from cachesim.faults.named import unknown
from cachesim.runs import env
from cachesim.runs.calls import Call
from cachesim.runs.registry import find_run
from cachesim.runs.rpc import call
from cachesim.servers.certificates import client_context
from cachesim.topology import Endpoint

_TIMEOUT = 5.0  # seconds for connecting
_LAST_ANSWER = 10.0  # seconds that the last answer may take: the link may have a latency


def run(name: str | None, node: str, command: Sequence[str]) -> int:
    """Open a prompt for a node, or send it one command.

    Args:
        name: the topology's name; None: the only one.
        command: a command with its arguments; empty for a prompt.

    Returns:
        The exit code.

    Raises:
        CachesimError: there is no such node, or it does not answer.
    """
    run = find_run(name)
    variables = run.env(secrets=True) or {}
    nodes = {it["name"]: it for it in call(run, Call.STATUS)["nodes"]}
    if node not in nodes:
        raise CachesimError(unknown("node", node, nodes))
    endpoint = Endpoint.parse(nodes[node]["endpoint"])
    if nodes[node]["role"] is None:  # only Redis nodes have one
        return _memcached(endpoint, variables, command)
    for program in ("redis-cli", "valkey-cli"):
        if path := shutil.which(program):
            return _redis_cli(path, endpoint, variables, command)
    return _redis(endpoint, variables, command)


def _redis_cli(
    program: str, endpoint: Endpoint, variables: dict[str, str], command: Sequence[str]
) -> int:
    where = ["-h", endpoint.host, "-p", str(endpoint.port)]
    tls = ["--tls", "--cacert", variables[env.CA_FILE]]
    user = ["--user", variables[env.REDIS_USERNAME]]
    # The token is not an argument, which other users could read.
    secrets = {**os.environ, "REDISCLI_AUTH": variables[env.REDIS_PASSWORD]}
    done = subprocess.run([program, *where, *tls, *user, *command], env=secrets, check=False)  # noqa: S603  # found on PATH
    return done.returncode


def _redis(endpoint: Endpoint, variables: dict[str, str], command: Sequence[str]) -> int:
    """Open a plain prompt, where there is no redis-cli."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError, RedisError, TimeoutError
    from redis.retry import Retry

    client = Redis(
        host=endpoint.host,
        port=endpoint.port,
        username=variables[env.REDIS_USERNAME],
        password=variables[env.REDIS_PASSWORD],
        ssl=True,
        ssl_ca_certs=variables[env.CA_FILE],
        decode_responses=True,
        encoding_errors="backslashreplace",
        socket_connect_timeout=_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )
    client.response_callbacks.clear()  # replies as Redis sends them: OK, not True

    with contextlib.closing(client):
        if command:
            try:
                _print_reply(client.execute_command(*command))
            except (ConnectionError, TimeoutError) as error:
                raise _no_answer(endpoint, error) from error
            except RedisError as error:
                print(f"(error) {error}")
                return 1
            return 0
        for line in _lines(f"{endpoint}> "):
            try:
                words = shlex.split(line)
                if words and words[0].lower() in ("quit", "exit"):
                    break
                if words:
                    _print_reply(client.execute_command(*words))
            except (ValueError, RedisError) as error:
                print(f"(error) {error}", flush=True)
    return 0


def _print_reply(reply: object, indent: str = "") -> None:
    match reply:
        case list() | tuple() | set():
            for number, item in enumerate(reply, 1):
                print(f"{indent}{number})", flush=True)
                _print_reply(item, f"{indent}   ")
        case dict():
            for key, value in reply.items():
                print(f"{indent}{key}: {value}", flush=True)
        case None:
            print(f"{indent}(nil)", flush=True)
        case _:
            print(f"{indent}{reply}", flush=True)


def _memcached(endpoint: Endpoint, variables: dict[str, str], command: Sequence[str]) -> int:
    """Send lines in the text protocol, and print what comes back."""
    context = client_context(Path(variables[env.CA_FILE]).read_bytes())
    try:
        plain = socket.create_connection((endpoint.host, endpoint.port), _TIMEOUT)
        connection = context.wrap_socket(plain, server_hostname=endpoint.host)
    except OSError as error:
        raise _no_answer(endpoint, error) from error
    one_at_a_time = threading.Lock()  # TLS can't be read and written at the same time

    def receive() -> bytes | None:
        """Return received data; None if there is none yet, b"" at the end."""
        with one_at_a_time:
            connection.setblocking(False)
            try:
                return connection.recv(65536)
            except ssl.SSLWantReadError:
                return None
            finally:
                connection.setblocking(True)

    def show() -> None:
        with contextlib.suppress(OSError, ValueError):
            data: bytes | None = None
            while data != b"":
                select.select([connection], [], [])
                if data := receive():
                    sys.stdout.write(data.decode(errors="replace").replace("\r\n", "\n"))
                    sys.stdout.flush()

    def send(line: str) -> None:
        with one_at_a_time:
            connection.sendall(f"{line}\r\n".encode())

    printer = threading.Thread(target=show, daemon=True)
    printer.start()
    with contextlib.closing(connection):
        try:
            for line in [" ".join(command)] if command else _lines(""):
                if line in ("quit", "exit"):
                    break
                send(line)
            send("quit")  # the server closes the connection after its last answer
        except OSError as error:
            raise _no_answer(endpoint, error) from error
        printer.join(_LAST_ANSWER)
    return 0


def _no_answer(endpoint: Endpoint, error: Exception) -> CachesimError:
    return CachesimError(
        f"no answer at {endpoint}: {error}. `cachesim status` shows the node's state and faults."
    )


def _lines(prompt: str) -> Iterator[str]:
    """Yield lines of stdin until its end."""
    with contextlib.suppress(EOFError):
        while sys.stdin is not None:  # it may be closed
            yield input(prompt if sys.stdin.isatty() else "")
