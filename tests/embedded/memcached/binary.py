"""Compares replies in the binary protocol, as `differential` does in the others.

`python -m tests.embedded.memcached.binary --steps 10000` starts both servers for each run.
"""

import argparse
import random
from collections.abc import Callable
from struct import Struct

from cachesim.protocols.memcached import MAX_KEY
from cachesim.protocols.memcached_binary import HEADER, OPCODES, REQUEST, RESPONSE
from tests.embedded.memcached.differential import Both, is_stable

_STORE, _COUNT, _NUMBER = Struct(">II"), Struct(">QQI"), Struct(">I")
_NOOP = 0x0A
_KEYS = (b"a", b"b", b"c", b"a:1", b"n", b"n", b"k" * 250, b"k" * 251, b"a b", b"\0\xff", b"x\n")
_VALUES = (b"", b"a", b"abc", b"0", b"10", b"99", b"-1", b"12 ", b"x" * 50, b"1\r\n", b"y" * 600)
_NUMBERS = (0, 1, 2, 5, 10, 2**32, 2**63 - 1)
# Nothing expires during a run, and no time is negative.
_EXPIRIES = (0, 0, 0, 100_000, 500_000, 4_000_000_000, 0xFFFFFFFF, 2_592_001)
_FLAGS = (0, 0, 1, 0xFFFFFFFF)
_STATS = (
    b"", b"settings", b"items", b"slabs", b"sizes", b"reset", b"detail on", b"detail off",
    b"detail dump", b"detail", b"detail x", b"foo", b"settingsfoo", b"resetx", b"conns",
)  # fmt: skip
_STORES, _COUNTS, _TOUCHES = (b"set", b"add", b"replace"), (b"incr", b"decr"), (b"touch", b"gat")
_CODES = {name: [code for code, kind in OPCODES.items() if kind.name == name] for name in {
    kind.name for kind in OPCODES.values()
}}  # fmt: skip


def request(
    code: int,
    key: bytes = b"",
    extras: bytes = b"",
    value: bytes = b"",
    *,
    opaque: bytes = b"word",
    cas: int = 0,
) -> bytes:
    """Return a request."""
    body = extras + key + value
    sizes = (len(key), len(extras), 0, 0, len(body))
    return HEADER.pack(REQUEST, code, *sizes, opaque, cas) + body


def _extras(name: bytes, r: random.Random) -> bytes:
    if name in _STORES:
        return _STORE.pack(r.choice(_FLAGS), r.choice(_EXPIRIES))
    if name in _COUNTS:
        return _COUNT.pack(r.choice(_NUMBERS), r.choice(_NUMBERS), r.choice(_EXPIRIES))
    if name in _TOUCHES:
        return _NUMBER.pack(r.choice(_EXPIRIES))
    return b""


def drawn(r: random.Random, cas_of: Callable[[bytes], int]) -> bytes:
    """Any request; some have a wrong form.

    Args:
        cas_of: returns the `cas` of a key's item, or any number.
    """
    name = r.choice((*_STORES, *_STORES, *_COUNTS, *_TOUCHES, b"get", b"get", b"delete", b"append",
                     b"prepend", r.choice(tuple(_CODES))))  # fmt: skip
    code = r.choice(_CODES[name])
    kind = OPCODES[code]
    key = r.choice(_KEYS) if kind.has_key else r.choice(_STATS) if kind.has_key is None else b""
    if name == b"flush_all" and r.random() < 0.5:
        return request(code, extras=_NUMBER.pack(0))
    value = b""
    if kind.has_value:
        value = r.choice(_VALUES)
        if (
            r.random() < 0.03 and len(key) <= MAX_KEY
        ):  # else it closes, and what it has said is lost
            value = bytes(r.choice((1048400, 1 << 20)))
    cas = r.choice((0, 0, 0, 0, 1, cas_of(key), cas_of(key), max(1, cas_of(key) - 1)))
    extras = _extras(name, r)
    chance = r.random()
    if chance < 0.01:
        extras += b"x"
    elif chance < 0.02:
        key = b"" if key else b"a"
    elif chance < 0.03:
        value += b"rest"
    elif chance < 0.05:
        code = r.choice((0x1B, 0x1F, 0x20, 0x21, 0x22, 0x25, 0x30, 0x40, 0x99, 0xFF))
        if code not in (0x21, 0x22):
            return request(code, value=b"x" * r.choice((0, 30)))
        extras = b""
    elif chance < 0.06:
        whole = bytearray(request(code, key, extras, value, cas=cas))
        whole[r.choice((0, 3, 4))] ^= 1
        return bytes(whole)
    return request(code, key, extras, value, cas=cas)


def replies(data: bytes) -> list[tuple[int, int, bytes, int, bytes, bytes, bytes]]:
    """Cut data into replies: opcode, status, opaque, `cas`, extras, key, value."""
    found = []
    while len(data) >= HEADER.size:
        magic, code, key, extras, _, status, body, opaque, cas = HEADER.unpack_from(data)
        assert magic == RESPONSE, data[:60]
        rest, data = data[HEADER.size : HEADER.size + body], data[HEADER.size + body :]
        parts = rest[:extras], rest[extras : extras + key], rest[extras + key :]
        found.append((code, status, opaque, cas, *parts))
    assert not data, data
    return found


def _stable(data: bytes) -> list[object]:
    """Return the replies that can be compared."""
    found: list[object] = []
    for reply in replies(data):
        code, _, _, _, _, key, value = reply
        if code != 0x10 or not key:
            found.append(reply)
        elif key == b"detailed":
            found.append(sorted(value.splitlines()))
        elif is_stable(f"{key.decode()} {value.decode()}"):
            found.append((key, value))
    return found


class Pair(Both):
    """Both, asked in the binary protocol."""

    def differ(self, r: random.Random) -> tuple[bytes, list[object], list[object]] | None:
        """Send a request, and return it with what each replies if that differs."""
        asked = drawn(r, self.ours.cas_of)
        self._number += 1
        opaque = _NUMBER.pack(self._number)
        # The first one tells a new connection the protocol, whatever comes then.
        whole = request(_NOOP) + asked + request(_NOOP, opaque=opaque)
        end = HEADER.pack(RESPONSE, _NOOP, 0, 0, 0, 0, 0, opaque, 0)
        replied = [server.ask(whole, end) for server in (self.real, self.ours)]
        real, ours = map(_stable, replied)
        if real == ours or (
            not any(reply.endswith(end) for reply in replied) and ours[: len(real)] == real
        ):
            return None  # as both have closed the connection, the last replies may get lost
        return asked, real, ours


def main() -> None:
    """Compare many replies, and print each difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--run", type=int, default=200, help="requests to the same process")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    r = random.Random(arguments.seed)
    left, count = arguments.steps, 0
    while left > 0:
        with Pair() as pair:
            for _ in range(min(left, arguments.run)):
                left -= 1
                difference = pair.differ(r)
                if difference is not None:
                    count += 1
                    asked, real, ours = difference
                    print(f"{asked[:80]!r}\n   real {real!r:.400}\n   ours {ours!r:.400}")
                    break  # from the same state again
    print(f"{arguments.steps} requests, {count} differences")


if __name__ == "__main__":
    main()
