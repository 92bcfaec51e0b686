"""What SNS carries, and what the services behind it get."""

import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest

from cachesim.events import EventLog
from cachesim.monitoring import architecture
from cachesim.monitoring.alarms import Alarm, Change, Query
from cachesim.monitoring.expressions import Expression
from cachesim.monitoring.messages import Message
from cachesim.monitoring.notifications import node_ids, of_alarm, of_event
from cachesim.monitoring.states import State
from cachesim.topology import Service
from tests.monitoring.play import DATE, TOPOLOGY

ALARM = next(it for it in architecture.alarms(TOPOLOGY) if it.name == "redis-memory-high")
ONE_NODE = dataclasses.replace(ALARM, nodes=("redis-b",))
BODY_KEYS = {
    *("AlarmName", "AlarmDescription", "AWSAccountId", "NewStateValue", "NewStateReason"),
    "AlarmConfigurationUpdatedTimestamp",
    *("StateChangeTime", "Region", "AlarmArn", "OldStateValue", "OKActions", "AlarmActions"),
    *("InsufficientDataActions", "Trigger"),
}


def message(
    alarm: Alarm = ALARM, to: str = "PagerDuty", new: State = State.ALARM, old: State = State.OK
) -> Message:
    """A message about a change."""
    change = Change(alarm.name, old, new, 5.0, DATE, "because", 95.0, "redis-b")
    return of_alarm(3, alarm, change, to, "t", DATE - timedelta(days=1), draw=lambda: "an id")


def body(it: Message) -> dict[str, Any]:
    """The message in the envelope."""
    found: dict[str, Any] = json.loads(it.envelope["Message"])
    return found


def test_envelope() -> None:
    """The envelope is as an HTTP subscriber of SNS gets it."""
    it = message().envelope
    assert (it["Type"], it["MessageId"]) == ("Notification", "an id")
    assert it["Subject"] == 'ALARM: "redis-memory-high" in US East (N. Virginia)'
    assert it["TopicArn"].endswith(":pagerduty")
    assert it["Timestamp"] == "2026-01-01T00:00:00.000Z"


def test_body() -> None:
    """The body has CloudWatch's keys, and the alarm's definition as the trigger."""
    it = body(message(ONE_NODE))
    assert it.keys() == BODY_KEYS
    assert it["StateChangeTime"] == "2026-01-01T00:00:00.000+0000"
    assert it["AlarmConfigurationUpdatedTimestamp"] == "2025-12-31T00:00:00.000+0000"
    assert it["AlarmDescription"] is None
    trigger = it["Trigger"]
    assert (trigger["MetricName"], trigger["Statistic"], trigger["Unit"]) == (
        "DatabaseMemoryUsagePercentage",
        "AVERAGE",
        None,
    )
    assert trigger["Dimensions"] == [
        {"value": "0001", "name": "CacheNodeId"},
        {"value": "t-0001-002", "name": "CacheClusterId"},
    ]


def test_metric_math() -> None:
    """An alarm on several nodes has metric math that can be evaluated."""
    trigger = body(message())["Trigger"]
    assert "MetricName" not in trigger
    first, *others = trigger["Metrics"]
    assert first["Expression"] == "MAX([m1_1, m1_2, m1_3])"
    assert Expression(first["Expression"]).names == tuple(it["Id"] for it in others)


def test_metric_math_of_an_expression() -> None:
    """The ids of each node's metrics are in its own part of the expression."""
    alarm = next(
        it for it in architecture.thresholds(TOPOLOGY) if it.name == "memcached-hit-rate-warning"
    )
    first, *others = body(message(alarm))["Trigger"]["Metrics"]
    assert first["Expression"].startswith("MIN([100 * GetHits_1 / (GetHits_1 + GetMisses_1), ")
    assert set(Expression(first["Expression"]).names) == {it["Id"] for it in others}


def test_metric_math_of_named_nodes() -> None:
    """Metrics that name their nodes are in the trigger as in the definition, once each."""
    queries = {
        "m1": Query("Evictions", "Sum", "redis-a"),
        "m2": Query("Evictions", "Sum", "redis-c"),
    }
    alarm = dataclasses.replace(ALARM, queries=queries, math="MAX([m1, m2])")
    first, *others = body(message(alarm))["Trigger"]["Metrics"]
    assert first["Expression"] == "MAX([m1, m2])"
    assert [it["Id"] for it in others] == ["m1", "m2"]
    clusters = [it["MetricStat"]["Metric"]["Dimensions"][1]["value"] for it in others]
    assert clusters == ["t-0001-001", "t-0001-003"]


@pytest.mark.parametrize("state", State)
def test_pagerduty(state: State) -> None:
    """PagerDuty takes alarms and OKs as they are, and drops what is neither."""
    old = State.OK if state is State.ALARM else State.ALARM
    it = message(new=state, old=old)
    is_taken = state is not State.INSUFFICIENT_DATA
    assert it.received == (it.envelope if is_taken else None)
    assert it.subject.startswith(f"{state}: ")
    assert bool(it.note) == (state is not State.ALARM)


def test_slack() -> None:
    """Slack gets a text from a relay, and the message says so."""
    it = message(to="Slack")
    assert it.received == {"text": f"*{it.subject}*\nbecause"}
    assert "relay" in it.note
    assert it.envelope["TopicArn"].endswith(":slack")


def test_long_name() -> None:
    """The subject has at most 100 characters."""
    assert len(message(dataclasses.replace(ALARM, name="x" * 200)).subject) == 100


def test_event() -> None:
    """An event of ElastiCache has its own name and text."""
    event = EventLog().record("failover", "redis-b", "Failover to replica node completed")
    it = of_event(1, event, "Slack", "t")
    assert json.loads(it.envelope["Message"]) == {
        "ElastiCache:FailoverComplete": "t : Failover to replica node completed"
    }
    assert it.at == event.at


def test_node_ids() -> None:
    """Each node of a replication group is a cluster of its own; Memcached nodes are in one."""
    assert node_ids("redis-c", Service.REDIS, "t") == ("t-0001-003", "0001")
    assert node_ids("memcached-b", Service.MEMCACHED, "t") == ("t", "0002")


def test_as_json() -> None:
    """A message is the same after a way through JSON."""
    it = message()
    assert Message(**json.loads(json.dumps(it.as_dict()))) == it
