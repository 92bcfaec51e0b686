"""What SNS would carry, and what each service behind it would get. Pure but for the ids drawn.

Nothing is signed, and no account is real. PagerDuty takes SNS's envelope as it is. Slack takes
none: a relay makes its payload of it, and the one here is cachesim's own.
"""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from cachesim.events import Event
from cachesim.monitoring.alarms import Alarm, Change, Query
from cachesim.monitoring.expressions import Expression, expression
from cachesim.monitoring.messages import Message
from cachesim.monitoring.states import State
from cachesim.topology import Service

ACCOUNT = "000000000000"
REGION = "us-east-1"
REGION_NAME = "US East (N. Virginia)"
_SUBJECT = 100  # characters at most

Draw = Callable[[], str]
"""Returns a new id."""

_EVENT_NAMES: Mapping[str, str] = {
    "failover": "ElastiCache:FailoverComplete",
    "recovering": "ElastiCache:CacheNodeReplaceStarted",
    "recovered": "ElastiCache:CacheNodeReplaceComplete",
}


def of_alarm(
    number: int,
    alarm: Alarm,
    change: Change,
    to: str,
    topology: str,
    made: datetime,
    draw: Draw | None = None,
) -> Message:
    """Return the message about a change of an alarm.

    Args:
        topology: its name.
        made: when the alarm was made, in UTC.
        draw: makes ids; random ones by default.
    """
    subject = f'{change.new}: "{alarm.name}" in {REGION_NAME}'[:_SUBJECT]
    body = _body(alarm, change, topology, made)
    it = _envelope(to, subject, json.dumps(body), change.date, draw or _id)
    received, note = _received(to, subject, it, change.new, change.reason)
    return Message(number, change.at, alarm.name, to, subject, it, received, note)


def of_event(
    number: int, event: Event, to: str, topology: str, draw: Draw | None = None
) -> Message:
    """Return the message about an event of ElastiCache, which has an `event_name`."""
    name, subject = str(event_name(event)), "Amazon ElastiCache Notification"
    text = json.dumps({name: f"{topology} : {event.message}"})
    it = _envelope(to, subject, text, event.date, draw or _id)
    received, note = _received(to, subject, it, None, event.message)
    return Message(number, event.at, name, to, subject, it, received, note)


def event_name(event: Event) -> str | None:
    """Return the name that ElastiCache gives to an event of the log; None: it has none."""
    if event.kind == "scaled":
        return f"ElastiCache:{'Add' if 'added' in event.data else 'Remove'}CacheNodeComplete"
    return _EVENT_NAMES.get(event.kind)


def _id() -> str:
    return str(uuid.uuid4())


def topic_arn(to: str) -> str:
    """Return the ARN of the topic that leads to a service."""
    return f"arn:aws:sns:{REGION}:{ACCOUNT}:{to.lower()}"


def dimensions(node: str, service: Service, topology: str) -> list[dict[str, str]]:
    """Return the dimensions of a node's metrics, as they are in messages."""
    cluster, number = node_ids(node, service, topology)
    return [
        {"value": number, "name": "CacheNodeId"},
        {"value": cluster, "name": "CacheClusterId"},
    ]


def node_ids(node: str, service: Service, topology: str) -> tuple[str, str]:
    """Return the `CacheClusterId` and the `CacheNodeId` of a node.

    Each node of a replication group is a cluster of its own; the Memcached nodes are in one.
    """
    number = 1 + "abcdefghijklmnopqrstuvwxyz".index(node[-1])
    if service is Service.REDIS:
        return f"{topology}-0001-{number:03}", "0001"
    return topology, f"{number:04}"


def _envelope(to: str, subject: str, text: str, date: datetime, draw: Draw) -> dict[str, Any]:
    arn = topic_arn(to)
    return {
        "Type": "Notification",
        "MessageId": draw(),
        "TopicArn": arn,
        "Subject": subject,
        "Message": text,
        "Timestamp": f"{_to_the_millisecond(date)}Z",
        "SignatureVersion": "1",
        "Signature": "",
        "SigningCertURL": "",
        "UnsubscribeURL": "",
    }


def _to_the_millisecond(date: datetime) -> str:
    return f"{date:%Y-%m-%dT%H:%M:%S}.{date.microsecond // 1000:03}"


def _body(alarm: Alarm, change: Change, topology: str, made: datetime) -> dict[str, Any]:
    def arns(state: State) -> list[str]:
        return [topic_arn(to) for to in alarm.actions.get(state, ())]

    return {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description or None,
        "AWSAccountId": ACCOUNT,
        "AlarmConfigurationUpdatedTimestamp": f"{_to_the_millisecond(made)}+0000",
        "NewStateValue": str(change.new),
        "NewStateReason": change.reason,
        "StateChangeTime": f"{_to_the_millisecond(change.date)}+0000",
        "Region": REGION_NAME,
        "AlarmArn": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{alarm.name}",
        "OldStateValue": str(change.old),
        "OKActions": arns(State.OK),
        "AlarmActions": arns(State.ALARM),
        "InsufficientDataActions": arns(State.INSUFFICIENT_DATA),
        "Trigger": _trigger(alarm, topology),
    }


def _trigger(alarm: Alarm, topology: str) -> dict[str, Any]:
    common = {
        "Period": alarm.period,
        "EvaluationPeriods": alarm.periods,
        "DatapointsToAlarm": alarm.needed,
        "ComparisonOperator": alarm.comparison,
        "Threshold": alarm.threshold,
        "TreatMissingData": alarm.missing,
        "EvaluateLowSampleCountPercentile": "",
    }
    # Metrics that all name their nodes are there once.
    nodes = (
        alarm.nodes if any(it.node is None for it in alarm.queries.values()) else alarm.nodes[:1]
    )
    if len(alarm.queries) == 1 and len(nodes) == 1 and alarm.math in alarm.queries:
        (query,) = alarm.queries.values()
        return {**_stat(query, query.node or nodes[0], alarm, topology), **common}
    metrics: list[dict[str, Any]] = []
    results: list[str] = []
    for index, node in enumerate(nodes, 1):
        suffix = f"_{index}" if len(nodes) > 1 else ""
        for name, query in alarm.queries.items():
            stat = {
                "Metric": _metric(query, query.node or node, alarm, topology),
                "Period": alarm.period,
                "Stat": query.statistic,
            }
            metrics.append({"Id": f"{name}{suffix}", "MetricStat": stat, "ReturnData": False})
        math = expression(alarm.math)
        results.append(_renamed(math, suffix))
    worst = "MAX" if alarm.is_upper else "MIN"
    whole = results[0] if len(results) == 1 else f"{worst}([{', '.join(results)}])"
    return {"Metrics": [{"Id": "e1", "Expression": whole, "ReturnData": True}, *metrics], **common}


def _renamed(math: Expression, suffix: str) -> str:
    """Return an expression whose ids have a suffix."""
    if not math.names:
        return str(math)
    names = "|".join(map(re.escape, math.names))
    return re.sub(rf"\b({names})\b", rf"\1{suffix}", str(math))


def _metric(query: Query, node: str, alarm: Alarm, topology: str) -> dict[str, Any]:
    return {
        "MetricName": query.metric,
        "Namespace": "AWS/ElastiCache",
        "Dimensions": dimensions(node, alarm.service, topology),
    }


def _stat(query: Query, node: str, alarm: Alarm, topology: str) -> dict[str, Any]:
    return {
        **_metric(query, node, alarm, topology),
        "StatisticType": "Statistic",
        "Statistic": query.statistic.upper(),
        "Unit": None,
    }


def _received(
    to: str, subject: str, envelope: dict[str, Any], state: State | None, text: str
) -> tuple[dict[str, Any] | None, str]:
    """Return what a service gets, and a note."""
    match to.lower():
        case "pagerduty":
            if state not in (State.ALARM, State.OK):
                return None, "PagerDuty drops what is neither an alarm nor an OK"
            return envelope, "" if state is State.ALARM else "it resolves the incident"
        case "slack":
            return {
                "text": f"*{subject}*\n{text}"
            }, "SNS does not lead to Slack: a relay sends this"
    return envelope, ""
