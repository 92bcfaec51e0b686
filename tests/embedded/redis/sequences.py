"""Compares what several clients of a primary and of its replica are sent: real ones and ours.

`python -m tests.embedded.redis.sequences PRIMARY REPLICA --episodes 100` asks the real servers at
these ports, a shard of a primary that owns all slots and its replica. Each episode is a sequence of
requests of clients that also subscribe, track keys, wait for keys, and are in transactions. In some
episodes the primary's memory is full for a while, in others both nodes change their roles. After
each request everything that any client has received is compared, and from time to time all data of
both nodes.
"""

import argparse
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tests.embedded.redis.alike import OTHER, compared_as, name_of, same
from tests.embedded.redis.grammar import Words, drawn, drawn_of_session
from tests.embedded.redis.sides import REPLICAS, OurSide, RealSide, Side
from tests.embedded.redis.wire import Reply, kinds, plain, replies_in

STEPS = 60
"""Requests in an episode."""
_ALIVE = 20
"""Requests after which the data of both nodes is compared."""
_ROUNDS = 50
_FULL, _NO_LIMIT = ((b"CONFIG", b"SET", b"maxmemory", limit) for limit in (b"1", b"0"))
"""With a limit of one byte, memory is full however much of it each of both uses."""
_FAILOVER = (b"CLUSTER", b"FAILOVER")
"""The step that makes both nodes change their roles."""
Step = tuple[str, Words]


@dataclass
class _State:
    """What is known of a client.

    Attributes:
        ids: its ids, of the real client and of ours.
        asked: the commands that have not been answered.
        queued: the commands of its transaction.
    """

    ids: tuple[int, int]
    asked: list[str] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)
    in_transaction: bool = False


class Episode:
    """A sequence of requests to real servers and to embedded nodes."""

    def __init__(self, ports: tuple[int, int]) -> None:
        self._real, self._ours = RealSide(ports), OurSide(ports)
        self._sides: tuple[Side, Side] = self._real, self._ours
        self._clients: dict[str, _State] = {}
        self._is_paused = self._is_failed_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_failed_over:
            self._real.fail_over()
        self._real.control("A", b"CLIENT", b"UNPAUSE")
        self._real.control("A", *_NO_LIMIT)
        self._real.close()
        self._ours.close()

    def _connect(self, name: str) -> None:
        ids = []
        for side in self._sides:
            side.connect(name)
            side.send(name, (b"CLIENT", b"ID"))
            side.settle(replicate=False)
            ids.append(int(side.taken()[name][0][1:]))
        self._clients[name] = _State((ids[0], ids[1]))

    def waits(self, name: str) -> bool:
        """Return whether a client has not been answered."""
        return name in self._clients and bool(self._clients[name].asked)

    def step(self, name: str, words: Words) -> Any:
        """Let a client send a request. Return what differs, or None."""
        for other in (name, *(word[1:].decode() for word in words if word in _IDS)):
            if other not in self._clients:
                self._connect(other)
        command = compared_as(words)
        state = self._clients[name]
        if state.in_transaction or command not in _SUBSCRIBE:
            state.asked.append(command)
        received = []
        for number, side in enumerate(self._sides):
            side.send(name, self._filled(words, number))
            side.settle(replicate=not self._is_paused)
            received.append(side.taken())
        if command == "client|pause":
            self._is_paused = True
        elif command == "client|unpause":
            self._is_paused = False
        return self._compared(received)

    def fail_over(self) -> Any:
        """Let the nodes change their roles. Return what clients are told differently, or None."""
        self._is_failed_over = not self._is_failed_over
        received = []
        for side in self._sides:
            side.fail_over()
            side.settle(replicate=True)
            received.append(side.taken())
        return self._compared(received)

    def _compared(self, received: list[dict[str, tuple[bytes, bool]]]) -> Any:
        """Return what differs in what clients have received, or None."""
        for _ in range(_ROUNDS):  # the system may tell of an end a moment later
            if all(received[0][other][1] == received[1][other][1] for other in received[0]):
                break
            time.sleep(0.01)
            for kept, side in zip(received, self._sides, strict=True):
                for other, (data, is_lost) in side.taken().items():
                    kept[other] = kept[other][0] + data, is_lost
        for other in received[0].keys() | received[1].keys():
            difference = self._differ(other, received[0][other], received[1][other])
            if difference is not None:
                return other, *difference
        return None

    def _filled(self, words: Words, number: int) -> Words:
        return tuple(
            b"%d" % self._clients[word[1:].decode()].ids[number] if word in _IDS else word
            for word in words
        )

    def _differ(self, name: str, sent: tuple[bytes, bool], ours: tuple[bytes, bool]) -> Any:
        state = self._clients[name]
        real_replies, our_replies = replies_in(sent[0]), replies_in(ours[0])
        if sent[1] or ours[1]:
            del self._clients[name]
        if len(real_replies) != len(our_replies) or sent[1] != ours[1]:
            return sent, ours
        for replies in (real_replies, our_replies):
            replies.sort(key=_is_event)  # first, as a reply may be among them
            _sort_names(replies)
        for one, other in zip(real_replies, our_replies, strict=True):
            if not self._alike(state, one, other):
                return plain(one), plain(other), one, other
        return None

    def _alike(self, state: _State, real: Reply, ours: Reply) -> bool:
        if real[0] == b">" or not state.asked or _is_shown(real):
            return bool(_unaddressed(real) == _unaddressed(ours))
        command = state.asked.pop(0)
        one, other = plain(real), plain(ours)
        if one == other == "QUEUED":
            state.queued.append(command)
            return True
        if command in ("multi", "discard", "reset", "exec"):
            state.in_transaction = command == "multi"
        if command in ("multi", "discard", "reset") and real[0] == b"+":
            state.queued.clear()
        if command == "exec" and isinstance(one, list) and isinstance(other, list):
            queued, state.queued = state.queued, []
            return len(one) == len(other) and all(
                _equal(*three) for three in zip(queued, real[1], ours[1], strict=False)
            )
        return _equal(command, real, ours)

    def data(self, name: str) -> tuple[Any, Any]:
        """Return all data of a node, of the real one and of ours."""
        for side in self._sides:
            side.settle(replicate=not self._is_paused)
        one, other = (_data(lambda *w, side=side: side.control(name, *w)) for side in self._sides)
        return one, other


_SUBSCRIBE = {
    "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe"
}  # fmt: skip
"""Commands whose replies are messages."""
_IDS = {b"$A", b"$B", b"$C"}


def _equal(command: str, real: Reply, ours: Reply) -> bool:
    one, other = plain(real), plain(ours)
    return same(command, one, other) and (command in OTHER or kinds(real) == kinds(ours))


_UNORDERED = {b"pmessage", b"unsubscribe", b"sunsubscribe"}
"""Messages that have no order of their patterns or channels when they follow each other."""


def _sort_names(replies: list[Reply]) -> None:
    """Sort messages without an order by pattern or channel. Their counts stay where they are."""
    at = 0
    while at < len(replies):
        end = at
        while end < len(replies) and _kind(replies[end]) in _UNORDERED:
            end += 1
        names = sorted((reply[1][1:-1] for reply in replies[at:end]), key=repr)
        for index, (name, (sign, items)) in enumerate(zip(names, replies[at:end], strict=True)):
            replies[at + index] = sign, [items[0], *name, items[-1]]
        at = end + 1


def _kind(reply: Reply) -> bytes:
    """Return the first word of a message."""
    items = reply[1]
    first = items[0][1] if isinstance(items, list) and items else b""
    return first if isinstance(first, bytes) else b""


def _is_event(reply: Reply) -> bool:
    """Return whether a message is a keyspace notification, which may come before a reply."""
    return (
        reply[0] == b">"
        and _kind(reply) in (b"message", b"pmessage")
        and (reply[1][-2][1].startswith(b"__key"))
    )


def _is_shown(reply: Reply) -> bool:
    """Return whether a reply is a line of MONITOR."""
    return reply[0] == b"+" and b" [0 " in reply[1]


def _unaddressed(reply: Reply) -> Any:
    """Return a message without times, addresses and ids of clients."""
    if isinstance(reply[1], bytes):
        text = re.sub(rb"^[\d.]+ \[0 (lua|[\d.:]+)\]", b"at [0 address]", reply[1])
        if b'"client"' in text.lower():
            text = re.sub(rb'"\d+"', b'"id"', text)
        return reply[0], text
    return (reply[0], "an id") if _kind(reply) == b"tracking-redir-broken" else reply


_READS = {
    "string": (b"GET",),
    "list": (b"LRANGE", b"0", b"-1"),
    "set": (b"SMEMBERS",),
    "hash": (b"HGETALL",),
    "zset": (b"ZRANGE", b"0", b"-1", b"WITHSCORES"),
    "stream": (b"XRANGE", b"-", b"+"),
}


_OF_TIME = b"{t}clock"
"""A key that depends on the time."""


def _data(ask: Callable[..., Any]) -> dict[bytes, Any]:
    found = {}
    for key in sorted(set(ask(b"KEYS", b"*")) - {_OF_TIME}):
        kind = ask(b"TYPE", key)
        name, *rest = _READS[kind]
        value = ask(name, key, *rest)
        if kind in ("set", "hash") and isinstance(value, list):
            step = 1 if kind == "set" else 2
            value = sorted(tuple(value[at : at + step]) for at in range(0, len(value), step))
        found[key] = kind, value, int(ask(b"PEXPIRETIME", key)) // 10_000
    return found


def play(ports: tuple[int, int], steps: Sequence[Step]) -> tuple[int, Any] | None:
    """Run an episode. Return the number of requests until something differs, and what."""
    with Episode(ports) as episode:
        for number, (name, words) in enumerate(steps, 1):
            is_failover = words == _FAILOVER
            difference = episode.fail_over() if is_failover else episode.step(name, words)
            if difference is None and (number % _ALIVE == 0 or number == len(steps)):
                for node in "AR":
                    real, ours = episode.data(node)
                    if real != ours:
                        difference = f"data of {node}", real, ours
            if difference is not None:
                return number, difference
    return None


def script(r: random.Random, steps: int = STEPS) -> list[Step]:
    """Draw the requests of an episode."""
    found: list[Step] = [(name, (b"HELLO", b"3")) for name in "ABCR" if r.random() < 0.5]
    found.append(("R", (b"READONLY",)))
    monitors: set[str] = set()
    changes_roles = r.random() < 0.2
    while len(found) < steps:
        name = r.choice("AAABBBCCR")
        words = drawn_of_session(r) if r.random() < 0.5 else drawn(r)
        if name in monitors and words[0].lower() not in (b"reset", b"quit"):
            continue  # between the replies in the reply of EXEC, Redis shows it what it has sent
        if words[0].lower() == b"monitor":
            monitors.add(name)
        elif name in monitors:
            monitors.remove(name)
        if not _is_left_out("R" if changes_roles else name, words):
            found.append((name, words))
    begin, end = sorted(r.sample(range(len(found)), 2))
    if changes_roles:
        found[begin:end] = [("", _FAILOVER), *found[begin:end], ("", _FAILOVER)]
    elif r.random() < 0.3:
        found[begin:end] = [("M", _FULL), *found[begin:end], ("M", _NO_LIMIT)]
    return found


def _is_left_out(name: str, words: Words) -> bool:
    """Return whether a request would end the episode, or depends on chance."""
    command = name_of(words)
    if name in REPLICAS and (command in _SUBSCRIBE or command == "monitor"):
        return True  # messages come over the cluster's bus at any moment
    return (
        b"0.001" in words
        or (command in ("xread", "xreadgroup") and b"1" in _after(b"block", words))
        or (command == "client|pause" and words[-1].lower() != b"write")  # nobody is answered
        or (command == "config|set" and words[2] != b"notify-keyspace-events")
        or command in ("acl|log", "randomkey", "function|flush", "client|list", "config|resetstat")
        or (command.startswith("cluster|") and command != "cluster|keyslot")
    )


def _after(option: bytes, words: Words) -> Words:
    """Return the argument of an option."""
    at = next((at for at, word in enumerate(words) if word.lower() == option), len(words))
    return words[at + 1 : at + 2]


def shrunk(ports: tuple[int, int], steps: list[Step]) -> list[Step]:
    """Leave out what the difference does not need."""
    size = max(1, len(steps) // 2)
    while True:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            found = play(ports, fewer) if fewer else None
            if found is not None:
                steps = fewer[: found[0]]
            else:
                at += size
        if size == 1:
            return steps
        size //= 2


def main() -> None:
    """Run many episodes, and print each difference with the requests that it needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("primary", type=int, help="port of a real Redis 7.0 on this machine")
    parser.add_argument("replica", type=int, help="port of its replica")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    ports = arguments.primary, arguments.replica
    count = steps = 0
    for number in range(arguments.episodes):
        drawn_steps = script(random.Random(f"{arguments.seed} {number}"))
        found = play(ports, drawn_steps)
        steps += found[0] if found else len(drawn_steps)
        if found is None:
            continue
        count += 1
        needed = shrunk(ports, drawn_steps[: found[0]])
        print(f"episode {number}")
        for name, words in needed:
            print(f"   {name}: {b' '.join(words)!r}")
        again = play(ports, needed)
        print(f"   -> {(again or found)[1]}", flush=True)
    print(f"{steps} requests in {arguments.episodes} episodes, {count} differ")


if __name__ == "__main__":
    main()
