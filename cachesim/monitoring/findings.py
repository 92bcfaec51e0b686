"""What can't work about an alarm, why, and the usual remedy. Pure.

Sources: "Which metrics should I monitor?" in the Amazon ElastiCache user guide, and the API of
CloudWatch.
"""

from collections.abc import Iterator
from typing import NamedTuple

from cachesim.elasticache import MAX_CONNECTIONS
from cachesim.monitoring.alarms import Alarm
from cachesim.monitoring.architecture import NODE_TYPE
from cachesim.monitoring.metrics import VCPUS, find
from cachesim.topology import Service


class Finding(NamedTuple):
    """One finding.

    Attributes:
        alarm: its name.
        problem: what can't work, and why.
        remedy: what is usually done.
        is_fatal: whether the alarm can never fire.
    """

    alarm: str
    problem: str
    remedy: str
    is_fatal: bool = True


def findings(alarm: Alarm) -> Iterator[Finding]:
    """Return what is wrong with an alarm."""
    yield from _reach(alarm)
    if alarm.period < 60:
        yield Finding(
            alarm.name,
            f"its period is {alarm.period} s, but ElastiCache publishes once a minute: most "
            "periods have no data",
            "Use a period of 60 s or more.",
            is_fatal=False,
        )
    if not any(alarm.actions.values()):
        yield Finding(
            alarm.name, "it has no action, so nobody hears of it", "Give it one.", is_fatal=False
        )


def _reach(alarm: Alarm) -> Iterator[Finding]:
    if len(alarm.metrics) != 1 or alarm.math not in alarm.queries:
        return
    metric, is_upper, least = alarm.metrics[0], alarm.is_upper, alarm.threshold
    known = find(alarm.service, metric)
    engine = 100 / VCPUS
    if metric == "CPUUtilization" and alarm.service is Service.REDIS and is_upper:
        if least >= engine:
            yield Finding(
                alarm.name,
                f"CPUUtilization is of the whole host. An {NODE_TYPE} has {VCPUS} vCPUs, and one "
                f"thread runs the commands: when that is at 100 %, the host is at about "
                f"{engine:g} %, and {least:g} % is out of reach",
                f"Watch EngineCPUUtilization, or CPUUtilization above {90 / VCPUS:g} % (90 divided "
                "by the number of vCPUs).",
            )
    elif known is not None and known.unit == "Percent" and is_upper and not alarm.breaches(100):
        yield Finding(alarm.name, f"{metric} is never above 100 %", "Lower the threshold.")
    if metric == "CurrConnections" and is_upper and least >= MAX_CONNECTIONS:
        yield Finding(
            alarm.name,
            f"a node takes {MAX_CONNECTIONS} connections, and never has more",
            "Lower the threshold.",
        )
    if metric == "Evictions" and alarm.service is Service.REDIS and is_upper:
        yield Finding(
            alarm.name,
            "the policy of the Redis nodes is noeviction: they evict nothing, and refuse writes "
            "when their memory is full",
            "Watch DatabaseMemoryUsagePercentage.",
        )
    statistics = {query.statistic for query in alarm.queries.values()}
    if metric == "Evictions" and statistics == {"Sum"} and alarm.period > 60:
        yield Finding(
            alarm.name,
            f"the sum over {alarm.period} s is compared with {least:g}, which is "
            f"{least * 60 / alarm.period:g} a minute",
            "Use Average if the threshold is a minute's.",
            is_fatal=False,
        )


def out_of_reach(alarm: Alarm, *, is_emulated: bool) -> str:
    """Return why an alarm can't fire here; empty: it can.

    Args:
        is_emulated: whether the nodes have no processes of their own.
    """
    for finding in findings(alarm):
        if finding.is_fatal:
            return f"{finding.problem}. {finding.remedy}"
    if alarm.missing == "breaching":  # it fires without data
        return ""
    for metric in alarm.metrics:
        known = find(alarm.service, metric)
        if known is None:
            return f"there is no {metric} here: `cachesim alarms check` tells more"
        if is_emulated and known.is_of_process:
            return f"emulated nodes have no {metric}: they share one process"
    return ""
