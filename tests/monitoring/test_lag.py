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
    assert [lag.of(3.0, offset) for offset in (300, 250, 200, 150, 0)] == [0, 1, 1, 2, 3]


def test_idle_primary() -> None:
    """A replica that has all is not behind, however long nothing is written."""
    assert lag_with((0, 100), (50, 100)).of(60, 100) == 0


def test_nothing_is_known() -> None:
    """Before the primary was seen, nothing is told."""
    assert ReplicationLag().of(1, 5) is None


def test_other_primary() -> None:
    """The offsets of a former primary don't count, nor those of one that began anew."""
    lag = lag_with((0, 100), (1, 200))
    lag.note("redis-b", 5, 150)
    assert lag.of(6, 120) == 1
    lag.note("redis-b", 7, 10)
    assert lag.of(9, 5) == 2
