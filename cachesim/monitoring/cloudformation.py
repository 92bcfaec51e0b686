"""The alarms of a CloudFormation template: resources of the type `AWS::CloudWatch::Alarm`."""

import re
from collections.abc import Collection, Iterator, Mapping
from math import isfinite
from typing import Any, get_args

from cachesim.monitoring.alarm_yaml import Place
from cachesim.monitoring.alarms import Alarm, Comparison, Query, Statistic
from cachesim.monitoring.architecture import nodes_of
from cachesim.monitoring.drafts import Draft, Mistake, choice, service_of, whole
from cachesim.monitoring.findings import Finding
from cachesim.monitoring.states import MissingData, State
from cachesim.topology import Service, Topology

_TYPE = "AWS::CloudWatch::Alarm"
_COMPOSITE = "AWS::CloudWatch::CompositeAlarm"
_GROUP = "AWS::ElastiCache::ReplicationGroup"
_NAMESPACE = "AWS/ElastiCache"
_NOTHING = {"Ref": "AWS::NoValue"}
_ACTIONS = {
    State.ALARM: "AlarmActions",
    State.OK: "OKActions",
    State.INSUFFICIENT_DATA: "InsufficientDataActions",
}


def drafts(
    data: Mapping[str, Any], file: str, topology: Topology
) -> Iterator[Draft | Mistake | Finding]:
    """Return the alarms of a template, and what is wrong or ignored.

    References to parameters with a default are resolved.
    """
    parameters = data.get("Parameters")
    defaults = {
        name: it["Default"]
        for name, it in (parameters.items() if isinstance(parameters, Mapping) else ())
        if isinstance(it, Mapping) and "Default" in it
    }
    types = {
        name: it.get("Type") for name, it in data["Resources"].items() if isinstance(it, Mapping)
    }
    groups = [name for name, type_ in types.items() if type_ == _GROUP]
    for name, resource in data["Resources"].items():
        if name.startswith("Fn::ForEach") or types.get(name) == _COMPOSITE:
            what = "a composite alarm" if name in types else "a loop, of which each turn may be one"
            yield Finding(
                name, f"it is {what}, which is not emulated", "It is left out here.", is_fatal=False
            )
        if types.get(name) != _TYPE:
            continue
        properties = resource.get("Properties")
        line = getattr(properties, "line", getattr(resource, "line", 1))
        place = Place(file, line, f"Resources.{name}.Properties")
        if not isinstance(properties, Mapping):
            yield Mistake(place.problem("", "is missing"))
            continue
        try:
            yield _Reader(name, _resolved(properties, defaults), place, topology, groups).draft()
        except Mistake as mistake:
            yield mistake
        except _Elsewhere as elsewhere:
            yield Finding(
                name, f"it is about {elsewhere}, which is not emulated", "It is left out here.",
                is_fatal=False,
            )  # fmt: skip


class _Elsewhere(Exception):  # not an error: an alarm that is not about a cache
    """The namespace of another service."""


def _resolved(value: Any, defaults: Mapping[str, Any]) -> Any:
    match value:
        case {"Ref": str(name)} if name in defaults:
            return defaults[name]
        case {"Fn::Sub": str(text)}:
            text = re.sub(r"\$\{(\w+)\}", lambda it: str(defaults.get(it[1], it[0])), text)
            return {"Fn::Sub": text} if "${" in text else text
        case Mapping():
            return {
                key: _resolved(item, defaults) for key, item in value.items() if item != _NOTHING
            }
        case list():
            return [_resolved(item, defaults) for item in value if item != _NOTHING]
    return value


def text_of(value: Any) -> str:
    """Return a value as text: of what only CloudFormation can resolve, the names in it."""
    if isinstance(value, Mapping):
        return " ".join(text_of(it) for it in value.values())
    if isinstance(value, list):
        return " ".join(map(text_of, value))
    return str(value)


def _end_of(value: Any) -> str:
    """Return how the text ends that a value is, or that CloudFormation makes of it."""
    match value:
        case {"Fn::Sub": [text, *_]} | {"Fn::Sub": text} | {"Fn::Join": [_, [*_, text]]}:
            return _end_of(text)
    return "" if isinstance(value, Mapping) else str(value)


class _Reader:
    """Reads one alarm.

    Args:
        groups: the names of the replication groups of the template.
    """

    def __init__(
        self,
        name: str,
        properties: Mapping[str, Any],
        place: Place,
        topology: Topology,
        groups: Collection[str],
    ) -> None:
        self._it = properties
        self._place = place
        self._topology = topology
        self._groups = groups
        given = properties.get("AlarmName", name)
        self._name = given if isinstance(given, str) else name
        self._findings: list[Finding] = []

    def draft(self) -> Draft:
        """Return the alarm."""
        if "ExtendedStatistic" in self._it:
            raise self._mistake("ExtendedStatistic", "percentiles are not emulated")
        if "ThresholdMetricId" in self._it:
            raise self._mistake("ThresholdMetricId", "anomaly detection is not emulated")
        metrics, math = self._metrics()
        names = [str(it["MetricName"]) for it in metrics.values()]
        others = [text_of(it.get("Dimensions", "")) for it in metrics.values()]
        service = service_of(None, self._name, names, self._place, "MetricName", others)
        nodes = nodes_of(self._topology, service)
        queries, found = {}, []
        for id_, it in metrics.items():
            node = self._node(it, service, nodes)
            found.append(node)
            queries[id_] = Query(str(it["MetricName"]), self._statistic(it), node)
        if len(set(found)) == 1 and found[0] is not None:
            nodes = (found[0],)
        period = self._period(metrics)
        periods = whole(self._given("EvaluationPeriods"), self._place, "EvaluationPeriods")
        alarm = Alarm(
            self._name,
            service,
            nodes,
            queries,
            math,
            self._choice("ComparisonOperator", None, get_args(Comparison)),
            self._number("Threshold"),
            period=period,
            periods=periods,
            needed=whole(
                self._given("DatapointsToAlarm", periods), self._place, "DatapointsToAlarm"
            ),
            missing=self._choice("TreatMissingData", "missing", get_args(MissingData)),
            actions=self._actions(),
            description=text_of(self._it.get("AlarmDescription", "")),
            source=self._place.file,
        )
        return Draft(alarm, self._place, "AlarmName", self._findings)

    def _metrics(self) -> tuple[dict[str, Mapping[str, Any]], str]:
        """Return what is measured, by id, and what is made of it."""
        if "Metrics" not in self._it:
            self._check_namespace(self._it)
            return {"m1": self._it}, "m1"
        found: dict[str, Mapping[str, Any]] = {}
        expressions: dict[str, str] = {}
        returned: list[str] = []
        items = self._it["Metrics"]
        for item in items if isinstance(items, list) else [items]:
            if not isinstance(item, Mapping) or "Id" not in item:
                raise self._mistake("Metrics", "each should have an Id")
            id_ = str(item["Id"])
            if id_ in found or id_ in expressions:
                raise self._mistake("Metrics", f"a second Id {id_}")
            if item.get("ReturnData", True) not in (False, "false"):
                returned.append(id_)
            if "Expression" in item:
                expressions[id_] = text_of(item["Expression"])
            elif isinstance(stat := item.get("MetricStat"), Mapping):
                metric = stat.get("Metric")
                metric = metric if isinstance(metric, Mapping) else {}
                self._check_namespace(metric)
                found[id_] = {**metric, "Statistic": stat.get("Stat"), "Period": stat.get("Period")}
            else:
                raise self._mistake("Metrics", f"{id_} should have Expression or MetricStat")
        if not found:
            raise self._mistake("Metrics", "no MetricStat is there")
        if len(returned) != 1:
            raise self._mistake("Metrics", "ReturnData should be true of exactly one")
        return found, self._inlined(returned[0], expressions)

    def _inlined(self, id_: str, expressions: Mapping[str, str], depth: int = 0) -> str:
        """Return an expression of metrics alone."""
        if id_ not in expressions:
            return id_
        if depth > len(expressions):
            raise self._mistake("Metrics", f"the expression {id_} refers to itself")
        return re.sub(
            r"\b[a-z]\w*\b",
            lambda it: (
                f"({self._inlined(it[0], expressions, depth + 1)})"
                if it[0] in expressions
                else it[0]
            ),
            expressions[id_],
        )

    def _check_namespace(self, metric: Mapping[str, Any]) -> None:
        namespace = metric.get("Namespace", "nothing")
        if namespace != _NAMESPACE:
            raise _Elsewhere(text_of(namespace))
        if not isinstance(self._given("MetricName", of=metric), str):
            raise self._mistake("MetricName", "should be text")

    def _node(
        self, metric: Mapping[str, Any], service: Service, nodes: tuple[str, ...]
    ) -> str | None:
        """Return the node that the dimensions of a metric are about; None: any."""
        given = self._given("Dimensions", of=metric)
        if not given:
            self._without_data(
                "it has no dimensions. ElastiCache publishes each node's metrics under "
                "CacheClusterId and CacheNodeId, so CloudWatch has no data for it; here it is "
                f"on the worst {service} node",
                "Give both dimensions, and make an alarm for each node, or metric math over all of "
                "them.",
            )
            return None
        found = {
            str(it.get("Name")): it.get("Value")
            for it in (given if isinstance(given, list) else [given])
            if isinstance(it, Mapping)
        }
        if "CacheClusterId" not in found:
            raise self._mistake("Dimensions", "CacheClusterId is missing")
        match found["CacheClusterId"]:
            case {"Ref": str(group)} if group in self._groups:
                self._without_data(
                    f"its CacheClusterId is the replication group {group}, but ElastiCache "
                    "publishes metrics of nodes alone, so CloudWatch has no data for it; here it "
                    f"is on the worst {service} node",
                    f'Make an alarm for each node, such as !Sub "${{{group}}}-0001-001".',
                )
        match found.get("CacheNodeId"):
            case str() | int() as id_ if not re.fullmatch(r"\d{4}", str(id_)):
                self._without_data(
                    f"no node has the CacheNodeId {id_}, so CloudWatch has no data for it",
                    "They have four digits, such as '0001', which YAML needs in quotes.",
                )
        key = "CacheClusterId" if service is Service.REDIS else "CacheNodeId"
        match = re.search(r"(\d{3,4})$", _end_of(found.get(key, "")))
        if match is None:
            return None
        if not 1 <= int(match[1]) <= len(nodes):
            raise self._mistake(
                "Dimensions", f"{text_of(found[key])}: there are {len(nodes)} {service} nodes here"
            )
        return nodes[int(match[1]) - 1]

    def _without_data(self, problem: str, remedy: str) -> None:
        finding = Finding(self._name, problem, remedy)
        if finding not in self._findings:  # of another metric
            self._findings.append(finding)

    def _statistic(self, metric: Mapping[str, Any]) -> Statistic:
        found: Statistic = choice(
            self._given("Statistic", of=metric), get_args(Statistic), self._place, "Statistic"
        )
        return found

    def _period(self, metrics: Mapping[str, Mapping[str, Any]]) -> int:
        values = {
            str(self._given("Period", of=it) or self._given("Period", ""))
            for it in metrics.values()
        }
        if len(values) != 1:
            raise self._mistake("Period", "should be the same for all metrics")
        return whole(values.pop(), self._place, "Period")

    def _number(self, key: str) -> float:
        value = self._given(key)
        try:
            if isinstance(value, bool) or not isfinite(found := float(str(value))):
                raise ValueError
            return found
        except ValueError:
            raise self._mistake(key, f"should be a number, got {value!r}") from None

    def _choice(self, key: str, default: str | None, choices: tuple[str, ...]) -> Any:
        return choice(self._given(key, default), choices, self._place, key)

    def _given(self, key: str, default: Any = None, of: Mapping[str, Any] | None = None) -> Any:
        """Return what a key of the alarm, or of one of its metrics, has here."""
        value = (self._it if of is None else of).get(key, default)
        if isinstance(value, Mapping):
            raise self._mistake(
                key,
                f"only CloudFormation can tell what {text_of(value)} is: write the value, or !Ref "
                "a parameter that has a Default",
            )
        return value

    def _actions(self) -> dict[State, tuple[str, ...]]:
        if self._it.get("ActionsEnabled", True) in (False, "false"):
            return {}
        found = {}
        for state, key in _ACTIONS.items():
            some = tuple(dict.fromkeys(map(_to, _each(self._it.get(key)))))
            if some:
                found[state] = some
        return found

    def _mistake(self, key: str, message: str) -> Mistake:
        return Mistake(self._place.problem(key, message))


def _each(given: Any) -> Iterator[Any]:
    """Yield all actions that may be given: a condition has one value or another."""
    match given:
        case None:
            return
        case {"Fn::If": [_, *branches]} | [*branches]:
            for it in branches:
                yield from _each(it)
        case _:
            yield given


def _to(action: Any) -> str:
    """Return where an action leads: the service that its name tells, or the name."""
    text = text_of(action)
    for word, service in (("pagerduty", "PagerDuty"), ("slack", "Slack"), ("chatbot", "Slack")):
        if word in text.lower():
            return service
    return text.rpartition(":")[2]
