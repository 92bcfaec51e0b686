"""Captures a real Redis 7.0's data about its commands and its configuration.

`python -m tests.embedded.redis.capture PORT` asks the server at that port of this machine. It
must run with `--cluster-enabled yes --appendonly yes --save "" --enable-debug-command yes`, and
otherwise with defaults. This writes the files in `cachesim/embedded/redis/data/`,
`tests/embedded/redis/commands/groups.json` and `tests/embedded/redis/grammar/tokens.json` anew.
"""

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

import cachesim
from cachesim.protocols.resp import request
from tests.embedded.redis.wire import Reply, replies_in

DATA = Path(cachesim.__file__).parent / "embedded" / "redis" / "data"
GROUPS = Path(__file__).parent / "commands" / "groups.json"
"""The commands of each group."""
TOKENS = Path(__file__).parent / "grammar" / "tokens.json"
"""The words that are options of each command and subcommand."""
_OF_THE_RUN = ("dir", "port", "logfile", "pidfile", "cluster-config-file")
"""Settings of the captured process, not of Redis."""


def ask(client: "redis.Redis", *command: str) -> Any:
    """Return the reply as it came, in RESP2: maps are flat lists."""
    connection = client.connection_pool.get_connection()
    connection.send_command(*command)
    return connection.read_response()


def one_a_line(rows: list[Any]) -> str:
    """Return a JSON array with one row a line, so that differences can be read."""
    lines = (json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def main(port: int) -> None:
    """Write the files."""
    client = redis.Redis(port=port, decode_responses=True, protocol=2)
    version = client.info("server")["redis_version"]
    if not version.startswith("7.0."):
        raise SystemExit(f"that is {version}: the data is Redis 7.0's")
    commands = sorted(ask(client, "COMMAND"), key=lambda row: str(row[0]))
    (DATA / "commands.json").write_text(one_a_line(commands))
    helpful = [row[0] for row in commands if any(sub[0] == f"{row[0]}|help" for sub in row[9])]
    texts = [[name, ask(client, name, "HELP")] for name in helpful]
    (DATA / "help.json").write_text(one_a_line(texts))
    settings = ask(client, "CONFIG", "GET", "*")
    named = sorted(zip(settings[::2], settings[1::2], strict=True))
    kept = [[name, "" if name in _OF_THE_RUN else value] for name, value in named]
    (DATA / "config.json").write_text(one_a_line(kept))
    groups: dict[str, list[str]] = {}
    tokens: list[list[Any]] = []
    docs = documented(ask(client, "COMMAND", "DOCS"))
    for name, about in sorted(docs, key=lambda one: one[0]):
        groups.setdefault(about["group"], []).append(name)
        if found := sorted(set(tokens_in(about.get("arguments", [])))):
            tokens.append([name, found])
    GROUPS.write_text(one_a_line([list(row) for row in sorted(groups.items())]))
    TOKENS.write_text(one_a_line(tokens))
    whole = as_json(typed(port, b"COMMAND", b"DOCS"))
    (DATA / "docs.json").write_text(one_a_line(sorted(map(list, whole.items()))))


def typed(port: int, *words: bytes) -> Reply:
    """Return a reply with its types, in RESP3."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request([b"HELLO", b"3"]) + request(words))
        data = b""
        while True:
            data += connection.recv(1 << 20)
            try:
                return replies_in(data)[1]
            except (ValueError, IndexError):
                continue


def as_json(reply: Reply) -> Any:
    """Return a reply as JSON: a map as an object, a set under `~`, a status under `+`."""
    sign, value = reply
    if sign == b"+":
        return {"+": value.decode()}
    if sign == b":":
        return int(value)
    if not isinstance(value, list):
        return value.decode()
    parts = [as_json(one) for one in value]
    if sign == b"%":
        return dict(zip(parts[::2], parts[1::2], strict=True))
    return {"~": parts} if sign == b"~" else parts


def documented(docs: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield commands and subcommands with what is said of them."""
    for name, flat in zip(docs[::2], docs[1::2], strict=True):
        texts = dict(zip(flat[::2], flat[1::2], strict=True))
        yield name, texts
        yield from documented(texts.get("subcommands", []))


def tokens_in(arguments: list[Any]) -> Iterator[str]:
    """Yield the words that stand for themselves among arguments."""
    for flat in arguments:
        argument = dict(zip(flat[::2], flat[1::2], strict=True))
        if "token" in argument:
            yield argument["token"]
        yield from tokens_in(argument.get("arguments", []))


if __name__ == "__main__":
    main(int(sys.argv[1]))
