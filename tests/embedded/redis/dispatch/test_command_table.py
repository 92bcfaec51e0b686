"""The command table."""

import threading

import pytest

from cachesim.embedded.redis.dispatch import command_table


def test_a_number_of_keys_with_a_fraction() -> None:
    """Keys are found after a number that is none, as C reads it; the command then refuses it."""
    table = command_table.commands()
    for number, count in ((b"1.5", 1), (b"2x", 2), (b" 1", 1), (b"4.0", 0), (b"x", 0), (b"0x1", 0)):
        words = [b"LMPOP", number, b"a", b"b", b"LEFT"]
        assert table["lmpop"].keys(words) == words[2 : 2 + count], number
    words = [b"ZUNIONSTORE", b"to", b"2.5", b"a", b"b"]
    assert table["zunionstore"].keys(words) == [b"a", b"b", b"to"]


def test_one_table_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that ask for the table at the same time get the same one."""
    both, read = threading.Event(), command_table.data
    command_table._commands.cache_clear()

    def slow(name: str) -> object:
        both.wait(0.2)  # the other thread has begun by then
        return read(name)

    monkeypatch.setattr(command_table, "data", slow)
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(command_table.commands())) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1]
