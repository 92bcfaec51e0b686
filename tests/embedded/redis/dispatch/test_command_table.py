"""The command table."""

import threading

import pytest

from cachesim.embedded.redis.dispatch import command_table


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
