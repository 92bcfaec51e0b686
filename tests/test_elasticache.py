"""ElastiCache's own words and limits."""

from cachesim import elasticache


def test_texts() -> None:
    """Events have exactly the texts of ElastiCache's."""
    assert elasticache.test_failover_called("0001") == (
        "Test Failover API called for node group 0001"
    )
    assert elasticache.failover_completed("redis-a", "redis-b") == (
        "Failover from primary node redis-a to replica node redis-b completed"
    )
    assert elasticache.recovering("redis-a") == "Recovering cache nodes redis-a"
    assert elasticache.recovered("redis-a") == "Finished recovery for cache nodes redis-a"


def test_connection_limit() -> None:
    """A node takes 65,000 connections."""
    assert elasticache.MAX_CONNECTIONS == 65_000
