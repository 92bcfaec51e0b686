"""The lag of a replica, from offsets over time."""

from cachesim.monitoring.lag import ReplicationLag


def lag_with(*seen: tuple[float, int]) -> ReplicationLag:
    """The lags of a primary that was seen at these times with these offsets."""
    lag = ReplicationLag()
    for at, offset in seen:
        lag.note("redis-a", at, offset)
    return lag


def test_lag() -> None:
    """It is the time since the primary first had what the replica lacks."""
    lag = lag_with((0, 100), (1, 200), (2, 300), (3, 300))
    found = [lag.of(f"redis-{n}", 3.0, n) for n in (300, 250, 200, 150, 0)]
    assert found == [0, 1, 1, 2, 3]


def test_idle_primary() -> None:
    """A replica that has all is not behind, however long nothing is written."""
    assert lag_with((0, 100), (50, 100)).of("redis-b", 60, 100) == 0


def test_nothing_is_known() -> None:
    """Before the primary was seen, nothing is told."""
    assert ReplicationLag().of("redis-b", 1, 5) is None


def test_other_primary() -> None:
    """The offsets of a former primary don't count, nor those of one that began anew."""
    lag = lag_with((0, 100), (1, 200))
    lag.note("redis-b", 5, 150)
    assert lag.of("redis-c", 6, 120) == 1
    lag.note("redis-b", 7, 10)
    assert lag.of("redis-c", 9, 5) == 2


def test_new_process_of_a_replica() -> None:
    """It tells 0 until it is in sync: its lag begins with what it did not have before."""
    lag = lag_with((0, 100), (300, 200))
    assert lag.of("redis-b", 300, 200) == 0
    lag.note("redis-a", 301, 250)
    assert [lag.of("redis-b", at, 0) for at in (301, 305)] == [0, 4]
    assert lag.of("redis-b", 306, 250) == 0
    assert lag.of("redis-c", 306, 0) == 306


def test_former_primary() -> None:
    """What it alone had does not hide what it lacks of the present one."""
    lag = lag_with((0, 100))
    assert lag.of("redis-b", 1, 900) == 0
    lag.note("redis-a", 2, 200)
    assert lag.of("redis-b", 5, 150) == 3
