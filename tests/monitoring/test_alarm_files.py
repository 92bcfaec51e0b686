"""Alarm files in both forms: what is read, what is refused with its place, and what can't work."""

from pathlib import Path

import pytest

from cachesim.errors import SettingsError
from cachesim.monitoring import architecture
from cachesim.monitoring.alarm_files import Contents, examine, read_alarms
from cachesim.monitoring.alarms import Alarm, Query
from cachesim.monitoring.states import State
from tests.monitoring.play import TOPOLOGY

ARCHITECTURE = """\
Alarms:
  - Name: redis-cpu-high
    Metric: CPUUtilization
    Threshold: 80%
    Period: 5 minutes
    Action: SNS → PagerDuty

  - Name: memcached-evictions
    Metric: Evictions
    Threshold: 1000/min
    Period: 5 minutes
    Action: SNS → Slack

  - Name: redis-memory-high
    Metric: DatabaseMemoryUsagePercentage
    Threshold: 85%
    Period: 5 minutes
    Action: SNS → PagerDuty
"""

TEMPLATE = """\
Parameters:
  Most: {Type: Number, Default: 85}
Resources:
  Topic: {Type: "AWS::SNS::Topic"}
  RedisMemory:
    Type: AWS::CloudWatch::Alarm
    Properties:
      AlarmName: redis-memory
      Namespace: AWS/ElastiCache
      MetricName: DatabaseMemoryUsagePercentage
      Dimensions:
        - {Name: CacheClusterId, Value: sessions-0001-002}
        - {Name: CacheNodeId, Value: "0001"}
      Statistic: Maximum
      Period: 60
      EvaluationPeriods: 3
      DatapointsToAlarm: 2
      Threshold: !Ref Most
      ComparisonOperator: GreaterThanOrEqualToThreshold
      TreatMissingData: breaching
      AlarmActions: [!Ref PagerDutyTopic]
      InsufficientDataActions: ["arn:aws:sns:us-east-1:1:ops"]
  MemcachedHits:
    Type: AWS::CloudWatch::Alarm
    Properties:
      EvaluationPeriods: 1
      Threshold: 80
      ComparisonOperator: LessThanThreshold
      AlarmActions: [!Sub "arn:aws:sns:${AWS::Region}:1:slack-ops"]
      Metrics:
        - {Id: rate, Expression: "100 * share"}
        - {Id: share, Expression: "hits / (hits + misses)", ReturnData: false}
        - Id: hits
          ReturnData: false
          MetricStat: &hits
            Metric:
              Namespace: AWS/ElastiCache
              MetricName: GetHits
              Dimensions:
                - {Name: CacheClusterId, Value: !Ref Cache}
                - {Name: CacheNodeId, Value: "0003"}
            Period: 300
            Stat: Sum
        - Id: misses
          ReturnData: false
          MetricStat:
            Metric:
              Namespace: AWS/ElastiCache
              MetricName: GetMisses
              Dimensions:
                - {Name: CacheClusterId, Value: !Ref Cache}
                - {Name: CacheNodeId, Value: "0003"}
            Period: 300
            Stat: Sum
  Database:
    Type: AWS::CloudWatch::Alarm
    Properties: {Namespace: AWS/RDS, MetricName: CPUUtilization}
"""


@pytest.fixture
def found(tmp_path: Path) -> "Read":
    """What reads a text as an alarm file."""
    return Read(tmp_path / "alarms.yaml")


class Read:
    """Reads texts as alarm files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, text: str) -> Contents:
        """Return what it has."""
        self.path.write_text(text, encoding="utf-8")
        return examine(self.path, TOPOLOGY)

    def one(self, **changes: str) -> Contents:
        """Return what a file with one alarm has."""
        values = {"Name": "redis-x", "Metric": "CacheHitRate", "Threshold": "80%", **changes}
        lines = [f"{key}: {value}" for key, value in values.items()]
        return self("Alarms:\n  - " + "\n    ".join(lines))


def told(alarm: Alarm) -> tuple[object, ...]:
    """What an alarm is about."""
    return (
        *(alarm.name, alarm.service, alarm.nodes, alarm.queries, alarm.comparison),
        *(alarm.threshold, alarm.period, alarm.actions),
    )


def test_architecture(found: Read) -> None:
    """The architecture's file has the alarms that are there without a file."""
    expected = [told(it) for it in architecture.alarms(TOPOLOGY)]
    assert [told(it) for it in found(ARCHITECTURE).alarms] == expected


def test_out_of_reach(found: Read) -> None:
    """Only redis-cpu-high can't fire, for its reason and with its remedy."""
    (finding,) = found(ARCHITECTURE).findings
    assert (finding.alarm, finding.is_fatal) == ("redis-cpu-high", True)
    assert "r6g.large" in finding.problem
    assert "2 vCPUs" in finding.problem
    assert "EngineCPUUtilization" in finding.remedy
    assert "45 %" in finding.remedy


def test_template(found: Read) -> None:
    """A CloudFormation template gives the same kind of alarms; other services' are left out."""
    contents = found(TEMPLATE)
    assert contents.mistakes == []
    memory, hits = contents.alarms
    assert told(memory) == (
        "redis-memory", "redis", ("redis-b",),
        {"m1": Query("DatabaseMemoryUsagePercentage", "Maximum", "redis-b")},
        "GreaterThanOrEqualToThreshold", 85, 60,
        {State.ALARM: ("PagerDuty",), State.INSUFFICIENT_DATA: ("ops",)},
    )  # fmt: skip
    assert (memory.periods, memory.needed, memory.missing) == (3, 2, "breaching")
    assert hits.math == "100 * (hits / (hits + misses))"
    assert (hits.nodes, hits.queries["hits"]) == (
        ("memcached-c",),
        Query("GetHits", "Sum", "memcached-c"),
    )
    assert hits.actions == {State.ALARM: ("Slack",)}
    assert [it.alarm for it in contents.findings] == ["Database"]


def test_without_dimensions(found: Read) -> None:
    """CloudWatch has no data for an alarm without dimensions, and the check says so."""
    dimensions = TEMPLATE[TEMPLATE.index("      Dimensions") : TEMPLATE.index("      Statistic")]
    contents = found(TEMPLATE.replace(dimensions, "").partition("  MemcachedHits")[0])
    assert contents.alarms[0].nodes == ("redis-a", "redis-b", "redis-c")
    assert "dimensions" in contents.findings[0].problem


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("!Ref Group", "is the replication group Group"),
        ("sessions-0001-002}\n        - {Name: CacheNodeId, Value: 0001", "CacheNodeId 1,"),
    ],
)
def test_dimensions_of_no_node(found: Read, value: str, words: str) -> None:
    """CloudWatch has no data of a whole group, nor of an id that YAML took for a number."""
    text = TEMPLATE.partition("  MemcachedHits")[0].replace("sessions-0001-002", value)
    text = text.replace('        - {Name: CacheNodeId, Value: "0001"}\n', "")
    text += '  Group: {Type: "AWS::ElastiCache::ReplicationGroup"}\n'
    (finding,) = found(text).findings
    assert words in finding.problem
    assert finding.is_fatal


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("Any: {Type: AWS::CloudWatch::CompositeAlarm}", "a composite alarm"),
        ("Fn::ForEach::Nodes: [Node, [a], {}]", "a loop"),
    ],
)
def test_left_out(found: Read, key: str, words: str) -> None:
    """What may page in production, and does not here, is told."""
    finding = found(f"{TEMPLATE}  {key}\n").findings[-1]
    assert words in finding.problem
    assert not finding.is_fatal


@pytest.mark.parametrize(
    ("value", "node"),
    [
        ('!Sub "${Sessions}-0001-002"', "redis-b"),
        ('!Sub ["${Group}-003", {Group: !Ref Sessions}]', "redis-c"),
        ('!Join ["-", [!Ref Sessions, "002"]]', "redis-b"),
        ('{"Fn::Sub": "${Sessions}-001"}', "redis-a"),
        ("!Ref Sessions002", None),
        ('!Sub "${Sessions002}"', None),
        ('!Join ["-", ["x-002", !Ref Suffix]]', None),
        ('!Sub "${Third}"', "redis-c"),
    ],
)
def test_node_of_an_intrinsic_function(found: Read, value: str, node: str | None) -> None:
    """The end of what a function makes tells the node, if it is written there."""
    text = TEMPLATE.partition("  MemcachedHits")[0].replace("sessions-0001-002", value)
    text = text.replace("Resources:", "  Third: {Default: sessions-0001-003}\nResources:")
    (memory,) = found(text).alarms
    assert memory.queries["m1"].node == node


def test_conditions(found: Read) -> None:
    """Actions of all branches count, and AWS::NoValue is none; what it is the value of is absent.

    The name of a condition is no action.
    """
    text = TEMPLATE.partition("  MemcachedHits")[0]
    text = text.replace("[!Ref PagerDutyTopic]", '!If [IsSlack, [!Ref Ops], !Ref "AWS::NoValue"]')
    text = text.replace("DatapointsToAlarm: 2", 'DatapointsToAlarm: !Ref "AWS::NoValue"')
    (memory,) = found(text).alarms
    assert (memory.needed, memory.actions[State.ALARM]) == (3, ("Ops",))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Threshold: !Ref Most", "Threshold: !Ref Limit"),
        ("Period: 60", "Period: !Ref Limit"),
        ("EvaluationPeriods: 3", "EvaluationPeriods: !If [IsProd, 3, Limit]"),
        ("DatapointsToAlarm: 2", "DatapointsToAlarm: !Ref Limit"),
        ("Statistic: Maximum", "Statistic: !Ref Limit"),
        ("TreatMissingData: breaching", "TreatMissingData: !Ref Limit"),
        ("MetricName: DatabaseMemoryUsagePercentage", "MetricName: !Ref Limit"),
        ("Dimensions:", "Dimensions: !If [Limit, [], []]\n      Other:"),
    ],
)
def test_only_cloudformation_can_resolve_it(found: Read, old: str, new: str) -> None:
    """What has no value here is a mistake that says what helps."""
    contents = found(TEMPLATE.partition("  MemcachedHits")[0].replace(old, new, 1))
    (mistake,) = contents.mistakes
    key = old.partition(":")[0]
    assert f"Properties.{key}: " in mistake
    assert "Limit" in mistake
    assert "Default" in mistake


@pytest.mark.parametrize("value", [".nan", ".inf", "much"])
def test_threshold_that_is_no_number(found: Read, value: str) -> None:
    """It is refused: nothing is beyond it, and JSON has no word for it."""
    (mistake,) = found(TEMPLATE.replace("Threshold: 80", f"Threshold: {value}")).mistakes
    assert "Threshold: should be a number" in mistake


def test_anomalies(found: Read) -> None:
    """An alarm on a band is refused as that, whatever else of it is not known."""
    (mistake,) = found(TEMPLATE.replace("Threshold: 80", "ThresholdMetricId: band")).mistakes
    assert "ThresholdMetricId: anomaly detection is not emulated" in mistake


@pytest.mark.parametrize("old", ["Id: misses", "Id: share", "Id: rate"])
def test_second_of_an_id(found: Read, old: str) -> None:
    """Two metrics of one Id are a mistake: nobody can tell which of them is meant."""
    (mistake,) = found(TEMPLATE.replace(old, "Id: hits")).mistakes
    assert "Properties.Metrics: a second Id hits" in mistake


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Threshold": "much"}, r":2: Alarms\[0\]\.Threshold: should be a number"),
        ({"Threshold": "85%", "Metric": "BytesUsedForCache"}, r"Threshold: % is not .* is Bytes"),
        ({"Threshold": "5s", "Metric": "Evictions"}, r"Threshold: s is not .* is Count"),
        ({"Threshold": "5/min", "Metric": "ReplicationLag"}, r"Threshold: /min is not .* Seconds"),
        ({"Threshold": "5m", "Metric": "ReplicationLag"}, r"Threshold: should be a number"),
        ({"Period": "soon"}, r"Period: should be such as 5 minutes"),
        ({"Period": "90s"}, r"Period: should be 10, 20, 30 or a multiple of 60"),
        ({"Period": "25 hours"}, r"more than 7 days|are kept here"),
        ({"Action": "mail"}, r"Action: should be such as SNS -> PagerDuty"),
        ({"Treshold": "80%"}, r"Treshold: unknown key; did you mean Threshold\?"),
        ({"Statistic": "p99"}, r"Statistic: should be one of"),
        ({"DatapointsToAlarm": "2"}, r"2 of 1 periods"),
        ({"EvaluationPeriods": "0"}, r"EvaluationPeriods: should be a whole number above 0"),
        ({"EvaluationPeriods": "²"}, r"EvaluationPeriods: should be a whole number above 0"),
        ({"Node": "redis-z"}, r"no redis node 'redis-z'"),
        ({"Name": "x", "Metric": "Evictions"}, r"engine can't be told"),
        ({"Service": "bus"}, r"should be redis or memcached"),
    ],
)
def test_mistakes(found: Read, changes: dict[str, str], message: str) -> None:
    """Each mistake is told with its file, line and key."""
    (mistake,) = found.one(**changes).mistakes
    assert mistake.startswith(str(found.path))
    with pytest.raises(SettingsError, match=message):
        read_alarms(found.path, TOPOLOGY)


@pytest.mark.parametrize(
    "text", ["", "[]", "Alarms: 3", "a: [", "Alarms: []", "\t", "Resources: {}"]
)
def test_no_alarm_file(found: Read, text: str) -> None:
    """What is no alarm file is refused with its name."""
    with pytest.raises(SettingsError, match=r"alarms\.yaml"):
        found(text)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Name": "memcached-x"}, "GetHits / (GetHits + GetMisses)"),
        ({"Metric": "CacheHitRat"}, "Did you mean CacheHitRate?"),
        ({"Metric": "Evictions", "Threshold": "10"}, "DatabaseMemoryUsagePercentage"),
        ({"Metric": "CurrConnections", "Threshold": "70K"}, "Lower the threshold"),
        ({"Metric": "CPUUtilization", "Threshold": "50%"}, "EngineCPUUtilization"),
        ({"Metric": "DatabaseMemoryUsagePercentage", "Threshold": "100%"}, "Lower the threshold"),
        ({"Metric": "Temperature", "Threshold": "5"}, "Leave the alarm out"),
    ],
)
def test_can_not_fire(found: Read, changes: dict[str, str], words: str) -> None:
    """What can never fire is told with the usual remedy, and is no mistake."""
    contents = found.one(Action="SNS -> Slack", **changes)
    assert contents.mistakes == []
    (finding,) = contents.findings
    assert finding.is_fatal
    assert words in finding.remedy


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("redis-x", "FreeableMemory"),
        ("x", "StringBasedCmdsLatency"),
        ("memcached-x", "SwapUsage"),
        ("memcached-x", "CmdConfigGet"),
    ],
)
def test_not_emulated(found: Read, name: str, metric: str) -> None:
    """An alarm on a metric that CloudWatch has, and cachesim has not, may fire in production."""
    contents = found.one(Name=name, Metric=metric, Threshold="5", Action="SNS -> Slack")
    (finding,) = contents.findings
    assert (contents.mistakes, finding.is_fatal) == ([], False)
    assert f"{metric} is not emulated" in finding.problem
    other = found.one(Name="memcached-x", Metric="StringBasedCmds", Threshold="5").findings[0]
    assert (other.is_fatal, "redis has it" in other.problem) == (True, True)


def test_can_fire(found: Read) -> None:
    """Of an alarm in reach nothing is told."""
    assert not found.one(Action="SNS -> Slack").findings
    low = found.one(Metric="CPUUtilization", Threshold="45%", Action="SNS -> Slack")
    assert not low.findings
    full = found.one(Metric="EngineCPUUtilization", Threshold='">=100%"', Action="SNS -> Slack")
    assert not full.findings


def test_signs(found: Read) -> None:
    """Low hit rates and free memory are bad by default; a sign says otherwise."""
    (free,) = found.one(Name="memcached-x", Metric="UnusedMemory", Threshold="9M").alarms
    assert free.comparison == "LessThanThreshold"
    assert found.one().alarms[0].comparison == "LessThanThreshold"
    assert found.one(Threshold='">=80%"').alarms[0].comparison == "GreaterThanOrEqualToThreshold"
    for text, value in (("50K", 5e4), ("50k", 5e4), ("2M", 2e6), ("2M/min", 2e6), ("7", 7)):
        assert found.one(Metric="NetworkBytesIn", Threshold=text).alarms[0].threshold == value


@pytest.mark.parametrize("threshold", [">1s", "> 80%", ">=80"])
def test_signs_without_quotes(found: Read, threshold: str) -> None:
    """YAML takes the sign for another thing: the error has the line, and what helps."""
    with pytest.raises(SettingsError, match=r"alarms\.yaml:4: .* in quotes$"):
        found.one(Threshold=threshold)


def test_engine_of_the_node(found: Read) -> None:
    """The node tells the engine, if the name does not."""
    (alarm,) = found.one(Name="x", Metric="Evictions", Threshold="5", Node="memcached-b").alarms
    assert (alarm.service, alarm.nodes) == ("memcached", ("memcached-b",))


def test_second_of_a_name(found: Read) -> None:
    """Two alarms of one name are a mistake."""
    contents = found(ARCHITECTURE + ARCHITECTURE.replace("Alarms:\n", ""))
    assert len(contents.mistakes) == 3
