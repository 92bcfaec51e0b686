"""The catalogue: faults as values, their checks, their JSON, and its schema."""

import contextlib
import json
import re
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachesim.errors import FaultError, InvalidFault, UnknownName
from cachesim.faults import catalogue
from cachesim.faults.appliers import APPLY
from cachesim.faults.catalogue import CATALOGUE, Catalogue
from cachesim.faults.fields import (
    Field,
    Flag,
    Name,
    Names,
    Number,
    OneToxic,
    Part,
    Streams,
    Text,
    Whole,
)
from cachesim.faults.spec import FaultSpec
from cachesim.faults.word_fields import Choice, Words
from cachesim.topology import production
from cachesim.toxiproxy import toxics
from cachesim.toxiproxy.toxics import MS_MAX, TOXICS, Stream

TOPOLOGY = production()
LINK = "client-to-redis-a"
ONE_OF_EACH: list[dict[str, Any]] = [
    {"fault": "latency", "links": [LINK], "ms": 5, "jitter": 0},
    {"fault": "bandwidth", "links": [LINK], "kb_s": 64},
    {"fault": "loss", "links": [LINK], "share": 0.05, "ms": 200},
    {"fault": "blackhole", "links": [LINK, "client-to-*"]},
    {"fault": "refuse", "links": [LINK]},
    {"fault": "reset", "links": [LINK]},
    {
        "fault": "toxic",
        "links": [LINK],
        "toxic": {"type": "limit_data", "attributes": {"bytes": 512}},
        "streams": ["upstream"],
        "toxicity": 0.25,
    },
    {"fault": "replication-lag", "seconds": 1.5},
    {"fault": "partition", "a": "a", "b": "az-b", "one_way": True},
    {"fault": "isolate", "zone": "a"},
    {"fault": "az-power", "zone": "c"},
    {"fault": "kill", "nodes": ["redis-a", "memcached-b"]},
    {"fault": "stop", "nodes": ["redis-a"]},
    {"fault": "pause", "nodes": ["redis-a"]},
    {"fault": "memory-fill", "nodes": ["redis-a", "memcached-a"], "to": 0.9},
    {"fault": "connection-limit", "nodes": ["redis-a"], "most": 100},
    {
        "fault": "answer",
        "nodes": ["redis-a"],
        "error": "MOVED",
        "commands": ["get"],
        "to": "redis-b",
        "share": 0.1,
        "times": 3,
    },
    {"fault": "delay", "nodes": ["redis-a"], "ms": 5, "commands": ["get", "mget"], "share": 1.0},
    {"fault": "slow", "nodes": ["redis-a"], "cpu": 2.5},
    {"fault": "hot-key", "nodes": ["redis-a", "memcached-b"], "key": "k", "rate": 500},
    {"fault": "aof-error", "nodes": ["redis-a"]},
    {"fault": "auth-rotate", "nodes": ["redis-a", "redis-b"], "strategy": "rotate"},
    {"fault": "bad-certificate", "nodes": ["redis-a"], "problem": "wrong-host"},
    {"fault": "expire", "nodes": ["redis-a"], "pattern": "session:*", "share": 0.5},
    {"fault": "flush", "nodes": ["redis-a", "memcached-a"]},
    {
        "fault": "replace",
        "nodes": ["redis-b", "memcached-*"],
        "new_address": True,
        "old": "hang",
    },
    {"fault": "scale", "memcached": 4},
    {"fault": "stale", "endpoints": ["endpoint-redis"]},
]


LAG = "replication-lag: replicas"
REDIS = "there are redis-a, redis-b, redis-c. Did you mean redis-c?"
NODES = (
    "there are redis-a, memcached-a, redis-b, memcached-b, redis-c, memcached-c. "
    "Did you mean redis-c?"
)


def of(name: str) -> dict[str, Any]:
    """The example of a fault."""
    (found,) = (it for it in ONE_OF_EACH if it["fault"] == name)
    return found


# --- what there is --------------------------------------------------------------------------


def test_every_fault_has_its_function() -> None:
    """Every fault can be applied."""
    assert list(APPLY) == list(CATALOGUE)


@pytest.mark.parametrize("fault", list(CATALOGUE), ids=lambda it: it.name)
def test_every_fault_says_what_it_is(fault: type[FaultSpec]) -> None:
    """Each fault has a line of help, each field too, and each number its bounds."""
    assert re.fullmatch(r"[A-Z].*\.", fault.help())
    assert fault.effect
    for field in fault.fields().values():
        assert field.help.endswith(".")
        assert field.type
        assert bool(field.bounds) == isinstance(field, Number)


def test_names_are_not_those_of_other_commands() -> None:
    """No fault hides another command of `cachesim fault`."""
    names = [fault.name for fault in CATALOGUE]
    assert not {"apply", "list", "schema"} & set(names)
    assert len(set(names)) == len(names)


# --- values and JSON ------------------------------------------------------------------------


@pytest.mark.parametrize("data", ONE_OF_EACH, ids=lambda it: it["fault"])
def test_from_json_and_back(data: dict[str, Any]) -> None:
    """JSON gives a value, and the value gives the same JSON."""
    fault = CATALOGUE.read(data)
    assert fault.as_dict() == data
    assert CATALOGUE.read(json.loads(json.dumps(data))) == fault
    assert hash(CATALOGUE.read(data)) == hash(fault)


def test_there_is_an_example_of_each() -> None:
    """The tests above have every fault."""
    assert [it["fault"] for it in ONE_OF_EACH] == [fault.name for fault in CATALOGUE]


def test_a_value_is_read_as_itself() -> None:
    """A fault that is a value already is given back."""
    fault = catalogue.Kill(("redis-a",))
    assert CATALOGUE.read(fault) is fault


def test_defaults_may_be_left_out() -> None:
    """Fields with a default may be left out; those that were not given are not written."""
    lag = CATALOGUE.read({"fault": "replication-lag", "seconds": 1})
    assert lag == catalogue.ReplicationLag(1)
    assert lag.as_dict() == {"fault": "replication-lag", "seconds": 1}
    assert CATALOGUE.read({"fault": "latency", "links": [LINK], "ms": 5}).as_dict()["jitter"] == 0


def test_each_name_once() -> None:
    """A name given twice counts once."""
    assert catalogue.Kill(("redis-a", "redis-b", "redis-a")).nodes == ("redis-a", "redis-b")


def values(field: Field) -> st.SearchStrategy[Any]:
    """All valid values of a field."""
    match field:
        case Whole():
            return st.integers(int(field.least), int(field.most))
        case Number():
            return st.floats(field.least, field.most) | st.just(int(field.most))
        case Flag():
            return st.booleans()
        case Choice():
            return st.sampled_from(field.words)
        case Words():
            return st.lists(st.text(min_size=1), min_size=1).map(tuple)
        case Name() | Text():
            return st.text(min_size=1)
        case Names():
            return st.lists(st.text(min_size=1), min_size=1).map(tuple)
        case Streams():
            return st.lists(st.sampled_from(Stream), min_size=1).map(tuple)
        case OneToxic():
            return st.sampled_from([toxics.Latency(5, 1), toxics.Slicer(64), toxics.SlowClose(1)])
    raise AssertionError(field)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(st.data())
def test_any_value_survives_json(data: st.DataObject) -> None:
    """Every fault that can be made comes back from JSON as it was."""
    cls = data.draw(st.sampled_from(list(CATALOGUE)))
    given_values = {
        name: data.draw(values(field) if name in cls.required() else values(field) | st.none())
        for name, field in cls.fields().items()
    }
    chosen = {name: value for name, value in given_values.items() if value is not None}
    try:
        fault = cls(**chosen)
    except InvalidFault:  # fields that do not go together
        assert cls in (catalogue.Latency, catalogue.Partition, catalogue.Answer, catalogue.HotKey)
        return
    assert CATALOGUE.read(json.loads(json.dumps(fault.as_dict()))) == fault


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_any_json_is_a_fault_or_an_error(data: st.DataObject) -> None:
    """Any JSON in a field gives a fault or an InvalidFault, and no other error."""
    example = dict(data.draw(st.sampled_from(ONE_OF_EACH)))
    example[data.draw(st.sampled_from(list(example)))] = data.draw(anything)
    with contextlib.suppress(InvalidFault):
        assert isinstance(CATALOGUE.read(example), FaultSpec)


# --- mistakes -------------------------------------------------------------------------------

MISTAKES: list[tuple[object, str]] = [
    ("kill", "a fault must be an object with the field `fault`, got 'kill'"),
    (None, "a fault must be an object with the field `fault`, got None"),
    ({}, "the field `fault` is missing. It has the fault's name: latency, bandwidth, "),
    (
        {"fault": "latncy"},
        "no fault 'latncy': there are latency, .*, stale. Did you mean latency?",
    ),
    ({"fault": "az_power"}, r"no fault 'az_power': .*\. Did you mean az-power\?"),
    ({"fault": "heal_all"}, "no fault 'heal_all': there are latency, "),
    ({"fault": "__init__"}, "no fault '__init__': there are latency, "),
    ({"fault": ["kill"]}, r"no fault \['kill'\]: there are "),
    (of("latency") | {"jiter": 1}, r"latency: no field 'jiter': .*\. Did you mean jitter\?"),
    (of("kill") | {"name": "x"}, "kill: no field 'name': there are nodes"),
    ({"fault": "latency", "ms": 5}, "latency: links is missing"),
    (of("latency") | {"ms": None}, "latency: ms is null: leave it out, or give it a value"),
    (of("replication-lag") | {"replicas": None}, "replication-lag: replicas is null"),
    (of("latency") | {"ms": True}, "latency: ms must be a whole number, got True"),
    (of("latency") | {"ms": "5"}, "latency: ms must be a whole number, got '5'"),
    (of("latency") | {"ms": -1}, "latency: ms must not be negative, got -1"),
    (of("latency") | {"ms": MS_MAX + 1}, f"latency: ms must be at most {MS_MAX} ms, got"),
    (of("latency") | {"links": 5}, "links must be a list with the names of links, got 5"),
    (of("latency") | {"links": {LINK: 1}}, "links must be a list with the names of links, got {"),
    (of("latency") | {"links": [5]}, "latency: links must have the names of links, got 5"),
    (of("latency") | {"links": [""]}, "latency: links must have the names of links, got ''"),
    (of("latency") | {"links": []}, "latency: links: no links were chosen: name at least one"),
    (of("kill") | {"nodes": []}, "kill: nodes: no nodes were chosen: name at least one"),
    (of("bandwidth") | {"kb_s": 0}, "at least 1 KB/s, got 0; `blackhole` stops all"),
    (of("bandwidth") | {"kb_s": 10**7 + 1}, "kb_s must be at most 10000000 KB/s, got 10000001"),
    (of("loss") | {"share": 0}, r"share must be from 0\.001 to 1, got 0"),
    (of("loss") | {"ms": 5}, "ms must be at least 10 ms, got 5"),
    (of("memory-fill") | {"to": 0}, r"to must be from 0\.1 to 10, got 0"),
    (of("connection-limit") | {"most": 0}, "most must be at least 1 connections, got 0"),
    (of("replication-lag") | {"seconds": 0}, r"seconds must be from 0\.001 to 9223372036, got 0"),
    (
        of("replication-lag") | {"seconds": "1"},
        r"seconds must be a number from 0\.001 to .*, got '1'",
    ),
    (
        of("replication-lag") | {"seconds": True},
        r"seconds must be from 0\.001 to .*, got True",
    ),
    (of("partition") | {"a": 5}, "partition: a must be the name of a zone, got 5"),
    (of("partition") | {"a": ["a"]}, r"partition: a must be the name of a zone, got \['a'\]"),
    (of("partition") | {"one_way": 1}, "partition: one_way must be true or false, got 1"),
    (
        of("toxic") | {"streams": []},
        "toxic: streams must have at least one of upstream, downstream",
    ),
    (of("toxic") | {"streams": "upstream"}, "toxic: streams must be a list, got 'upstream'"),
    (of("toxic") | {"streams": ["up"]}, "toxic: streams: no stream 'up': there are upstream, dow"),
    (of("toxic") | {"toxicity": 0}, r"toxic: toxicity must be from 0\.000001 to 1, got 0"),
    (of("toxic") | {"label": ""}, "toxic: label must not be empty"),
    (of("toxic") | {"toxic": "slicer"}, "toxic must be a toxic, in JSON with `type` and `attribu"),
    (of("toxic") | {"toxic": {"type": "slicer"}}, "toxic must be a toxic, in JSON with `type` an"),
]
BEYOND_SCHEMA: list[tuple[object, str]] = [
    (of("kill") | {5: "x"}, "kill: no field 5: there are nodes"),
    (of("latency") | {"ms": 5.0}, "latency: ms must be a whole number, got 5.0"),
    (of("latency") | {"ms": 0}, "latency: latency or jitter must be at least 1 ms, both are 0"),
    (of("latency") | {"ms": MS_MAX, "jitter": 1}, f"jitter must be at most {MS_MAX} together"),
    (of("replication-lag") | {"seconds": float("nan")}, "seconds must be from .*, got nan"),
    (of("partition") | {"a": "b"}, "a partition is between two zones, not az-b and itself"),
]
"""What JSON Schema takes, as fields that do not go together and 5.0, and what JSON can't have."""
TOXIC_MISTAKES: list[tuple[object, object, str]] = [
    ("slice", {}, "toxic: toxic: no type of toxic 'slice': .*. Did you mean slicer?"),
    (["slicer"], {}, r"no type of toxic \['slicer'\]"),
    ("slicer", [], r"toxic: toxic: slicer must be an object, got \[\]"),
    ("slicer", {"size": 5}, "toxic: toxic: slicer: no field 'size': there are average_size, "),
    ("slicer", {}, "toxic: toxic: slicer: average_size is missing"),
    ("slicer", {"average_size": 0}, "toxic: toxic: slicer: average_size must be above 0"),
    ("slicer", {"average_size": 10**5}, "average_size and size_variation must be below 32768 to"),
    ("limit_data", {"bytes": True}, "limit_data: bytes must be a whole number, got True"),
]


@pytest.mark.parametrize(("data", "message"), [*MISTAKES, *BEYOND_SCHEMA])
def test_mistakes(data: object, message: str) -> None:
    """A mistake is an error that names fault and field, and the nearest valid name."""
    with pytest.raises(InvalidFault, match=message):
        CATALOGUE.read(data)


@pytest.mark.parametrize(("kind", "attributes", "message"), TOXIC_MISTAKES)
def test_mistakes_in_toxics(kind: object, attributes: object, message: str) -> None:
    """A mistake in a toxic is an error too, with the nearest valid name."""
    with pytest.raises(InvalidFault, match=message):
        CATALOGUE.read(of("toxic") | {"toxic": {"type": kind, "attributes": attributes}})


def test_mistakes_in_values() -> None:
    """A value is checked when it is made, as JSON is, and the error is a ValueError."""
    with pytest.raises(ValueError, match="latency: ms must be a whole number, got True"):
        catalogue.Latency((LINK,), True)
    with pytest.raises(ValueError, match="must be a toxic, in JSON with `type` and `attributes`"):
        catalogue.Toxic((LINK,), None)  # type: ignore[arg-type]
    with pytest.raises(FaultError, match="a partition is between two zones"):
        catalogue.Partition("a", "az-a")


class Handle:
    """What has a name."""

    name = LINK


@pytest.mark.parametrize("links", [LINK, Handle(), [Handle()], {LINK}, iter([LINK])])
def test_one_or_several(links: Any) -> None:
    """Where several are meant, one will do, by its name or as what has one; in JSON too."""
    assert catalogue.Latency(links, 5) == catalogue.Latency((LINK,), 5)
    assert takes({"fault": "latency", "links": LINK, "ms": 5})


def test_patterns_of_nodes() -> None:
    """A name of nodes may be a pattern; where one zone is meant, none is taken."""
    fill = catalogue.MemoryFill(("memcached-*", "redis-a"))
    names = ("memcached-a", "memcached-b", "memcached-c", "redis-a")
    assert fill.resolve(production()).nodes == names
    with pytest.raises(UnknownName, match=r"no zone '\*': there are a, b, c"):
        catalogue.Isolate("*").resolve(production())


def test_a_fault_of_another_catalogue() -> None:
    """A fault that is not of the catalogue is not taken."""
    with pytest.raises(InvalidFault, match="no fault 'stop': there are kill"):
        Catalogue([catalogue.Kill]).read(catalogue.Stop(("redis-a",)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "faults must be a list, got {}"),
        ([], "the list has no faults: give at least one"),
        ([of("kill"), of("latency") | {"ms": "x"}], "^fault 2 of 2: latency: ms must be a whole "),
        ([of("kill"), [of("kill")]], "^fault 2 of 2: a fault must be an object"),
        ([of("isolate") | {"zone": "d"}], "^isolate: zone: no zone 'd': there are"),
    ],
)
def test_mistakes_in_lists(data: object, message: str) -> None:
    """An error in a list gives the position, unless there is only one."""
    with pytest.raises(InvalidFault, match=message):
        CATALOGUE.read_list(data, TOPOLOGY)


def test_lists() -> None:
    """A list has values and JSON, and is resolved with a topology only."""
    isolate = catalogue.Isolate("az-a")
    assert CATALOGUE.read_list([isolate, of("isolate")]) == [isolate, catalogue.Isolate("a")]
    assert CATALOGUE.read_list([isolate], TOPOLOGY) == [catalogue.Isolate("a")]


# --- names ----------------------------------------------------------------------------------


def test_names_are_resolved() -> None:
    """Patterns become links, each once and in the topology's order; zones lose their prefix."""
    links = catalogue.Refuse(("*-to-redis-c-bus", "a-to-*-c-bus", LINK)).resolve(TOPOLOGY).links
    assert links == ("a-to-redis-c-bus", "b-to-redis-c-bus", LINK)
    assert catalogue.Partition("az-a", "b").resolve(TOPOLOGY) == catalogue.Partition("a", "b")
    kill = catalogue.Kill(("redis-b", "redis-a"))
    assert kill.resolve(TOPOLOGY) == kill


def test_all_replicas() -> None:
    """A lag without replicas is on all Redis nodes."""
    lag = catalogue.ReplicationLag(1).resolve(TOPOLOGY)
    assert lag.replicas == ("redis-a", "redis-b", "redis-c")
    one = catalogue.ReplicationLag(1, ("redis-b",))
    assert one.resolve(TOPOLOGY) == one


@pytest.mark.parametrize(
    ("fault", "where", "message"),
    [
        (catalogue.Kill(("redis-a", "redis-d")), "kill: nodes", f"no node 'redis-d': {NODES}"),
        (catalogue.Isolate("z"), "isolate: zone", "no zone 'z': there are a, b, c"),
        (catalogue.Partition("a", "az-z"), "partition: b", "no zone 'az-z': there are a, b, c"),
        (catalogue.ReplicationLag(1, ("redis-x",)), LAG, f"no Redis node 'redis-x': {REDIS}"),
        (
            catalogue.ReplicationLag(1, ("memcached-a",)),
            LAG,
            "no Redis node 'memcached-a': there are redis-a, redis-b, redis-c",
        ),
    ],
)
def test_unknown_names(fault: FaultSpec, where: str, message: str) -> None:
    """A name that the topology lacks is an error with the nearest one and all there are."""
    with pytest.raises(UnknownName) as raised:
        fault.resolve(TOPOLOGY)
    assert str(raised.value) == f"{where}: {message}"


@pytest.mark.parametrize("name", ["client-to-redis-d", "to-nowhere*", "redis-a"])
def test_unknown_links(name: str) -> None:
    """A link that the topology lacks, or a pattern of none, is an error that is a KeyError too."""
    links = ", ".join(Part.LINK.names(TOPOLOGY))
    near = ". Did you mean client-to-redis-[abc]" if name.startswith("client") else ""
    with pytest.raises(KeyError) as raised:
        catalogue.Blackhole((name,)).resolve(TOPOLOGY)
    message = re.escape(f"blackhole: links: no link {name!r}: there are {links}")
    assert re.match(message + near, str(raised.value))


@pytest.mark.parametrize(
    ("fault", "kind", "target"),
    [
        (catalogue.Latency((LINK,), 5), "latency of 5 ms", LINK),
        (catalogue.Bandwidth((LINK, "b-to-redis-a"), 8), "bandwidth of 8 KB/s", f"{LINK} and 1 mo"),
        (catalogue.Toxic((LINK,), toxics.SlowClose(5)), "slow_close", LINK),
        (catalogue.Toxic((LINK,), toxics.SlowClose(5), label="slow"), "slow", LINK),
        (catalogue.ReplicationLag(1.5), "replication lag of 1.5 s", "redis-a, redis-b, redis-c"),
        (catalogue.Partition("a", "b"), "partition", "az-a|az-b"),
        (catalogue.Partition("a", "b", one_way=True), "partition", "az-a>az-b"),
        (catalogue.Isolate("c"), "isolate", "az-c"),
        (catalogue.AzPower("az-c"), "az-power", "az-c"),
        (catalogue.Pause(("redis-a", "redis-b")), "pause", "redis-a, redis-b"),
    ],
)
def test_words_of_the_event_log(fault: FaultSpec, kind: str, target: str) -> None:
    """A fault says for the event log what it is, and on what."""
    assert fault.kind == kind
    assert fault.resolve(TOPOLOGY).target.startswith(target)


# --- the schema -----------------------------------------------------------------------------


def takes(data: object) -> bool:
    """Whether the JSON Schema takes something."""
    jsonschema = pytest.importorskip("jsonschema")
    return bool(jsonschema.Draft202012Validator(CATALOGUE.schema()).is_valid(data))


def test_schema_is_one() -> None:
    """It is a valid schema of the draft that it names."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = CATALOGUE.schema()
    assert schema["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    jsonschema.Draft202012Validator.check_schema(schema)


def test_schema_takes_what_is_valid() -> None:
    """Each fault is taken, alone and in a list."""
    assert all(map(takes, ONE_OF_EACH))
    assert takes(ONE_OF_EACH)
    for toxic in (toxics.Latency(1), toxics.Bandwidth(0), toxics.Timeout(0), toxics.Slicer(64, 1)):
        assert takes(catalogue.Toxic((LINK,), toxic).as_dict())


@pytest.mark.parametrize("data", [data for data, _ in MISTAKES], ids=repr)
def test_schema_refuses_mistakes(data: object) -> None:
    """The schema refuses what can't be read, also in a list."""
    assert not takes(data)
    assert not takes([*ONE_OF_EACH, data])


def test_schema_has_bounds_and_words() -> None:
    """Every number has its bounds, and every field is described."""
    schema = CATALOGUE.schema()["$defs"]
    latency = schema["latency"]["properties"]
    assert latency["ms"] == {
        "description": catalogue.Latency.fields()["ms"].help,
        "type": "integer",
        "minimum": 0,
        "maximum": MS_MAX,
    }
    assert latency["jitter"]["default"] == 0
    for fault in CATALOGUE:
        it = schema[fault.name]
        assert it["additionalProperties"] is False
        assert it["description"] == fault.help()
        assert it["required"] == ["fault", *fault.required()]
        assert all("description" in it["properties"][name] for name in fault.fields())


def test_schema_has_every_toxic() -> None:
    """Every toxic is there with its attributes."""
    found = {
        it["properties"]["type"]["const"]: set(it["properties"]["attributes"]["properties"])
        for it in catalogue.Toxic.schema()["properties"]["toxic"]["oneOf"]
    }
    assert found == {cls.type: {field.name for field in fields(cls)} for cls in TOXICS}


@given(st.data())
def test_schema_takes_any_value(data: st.DataObject) -> None:
    """The schema takes every fault that can be made."""
    cls = data.draw(st.sampled_from(list(CATALOGUE)))
    drawn = {name: data.draw(values(field)) for name, field in cls.fields().items()}
    try:
        fault = cls(**drawn)
    except InvalidFault:
        return
    assert takes(json.loads(json.dumps(fault.as_dict())))
