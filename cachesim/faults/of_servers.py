"""Faults of what servers answer and hold, as values. They belong to `cachesim.faults.catalogue`."""

from dataclasses import dataclass
from typing import Annotated, Self

from cachesim.elasticache import SET, TOKEN_STRATEGIES
from cachesim.errors import InvalidFault, UnknownName
from cachesim.faults.fields import Names, Number, Part, Text, Whole, unknown
from cachesim.faults.spec import FaultSpec
from cachesim.faults.word_fields import Choice, Words
from cachesim.servers.bad_certificates import EXPIRED, PROBLEMS
from cachesim.topology import Topology

NodeNames = Annotated[
    tuple[str, ...],
    Names("Names of nodes, or patterns of them such as `redis-*`.", part=Part.NODE),
]
RedisNames = Annotated[tuple[str, ...], Names("Names of Redis nodes.", part=Part.REDIS_NODE)]
Commands = Annotated[
    tuple[str, ...] | None,
    Words("Names of commands, such as `get`; by default all that have keys."),
]
Share = Annotated[
    float, Number("The share of these requests that it works on.", least=0.00001, most=1)
]

ERRORS = {
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "MASTERDOWN": (
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
    ),
    "READONLY": "READONLY You can't write against a read only replica.",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "NOAUTH": "NOAUTH Authentication required.",
    "MAXCLIENTS": "ERR max number of clients reached",
    "BUSY": (
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    ),
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
}
"""The errors of Redis that a word stands for, with their texts."""
REDIRECTIONS = ("MOVED", "ASK")
OF_MEMCACHED = {
    "SERVER_ERROR": "SERVER_ERROR out of memory storing object",
    "CUT-OFF": "CUT-OFF",
    "OTHER-REPLY": "OTHER-REPLY",
}
"""The answers of Memcached that a word stands for."""
LONGEST_KEY = 250
"""Bytes of a key of Memcached."""
MOST_READS = 10_000
"""Reads in a second that one thread makes without keeping the topology's process busy."""
WORDS = (*ERRORS, *REDIRECTIONS, *OF_MEMCACHED)


@dataclass(frozen=True)
class Answer(FaultSpec):
    """Answer some commands with an error."""

    name = "answer"
    is_of_emulated = True
    effect = "a share of the commands fails as it does for moments in production"

    nodes: NodeNames
    error: Annotated[
        str,
        Text(
            f"The answer: {', '.join(WORDS)}, or the whole text of an error. `CUT-OFF` sends half "
            "of the reply and closes, `OTHER-REPLY` sends that of the request before; both are of "
            "Memcached.",
            sample="LOADING",
        ),
    ]
    commands: Commands = None
    to: Annotated[str | None, Text("The node that `MOVED` and `ASK` lead to.")] = None
    share: Share = 1.0
    times: Annotated[
        int | None,
        Whole("After so many answers it does nothing more.", "answers", least=1, most=10**9),
    ] = None

    def check(self) -> None:
        """See `FaultSpec.check`."""
        if self.error not in WORDS and " " not in self.error:
            known = (*WORDS, "any text with a space")
            raise InvalidFault(f"answer: error: {unknown('error', self.error, known)}")
        if any(it in self.error for it in "\r\n"):
            raise InvalidFault("answer: error must be one line")
        if (self.error in REDIRECTIONS) != (self.to is not None):
            raise InvalidFault("answer: MOVED and ASK need `to`, and other errors have none")

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"answer {self.error}"

    def resolve(self, topology: Topology) -> Self:
        """See `FaultSpec.resolve`."""
        found = super().resolve(topology)
        redis, memcached = Part.REDIS_NODE.names(topology), [n.name for n in topology.memcached]
        if self.to is not None and self.to not in redis:
            raise UnknownName(f"answer: to: {unknown('Redis node', self.to, redis)}")
        wrong = redis if self.error in OF_MEMCACHED else memcached
        if self.error in WORDS and (unfit := [it for it in found.nodes if it in wrong]):
            raise InvalidFault(f"answer: {', '.join(unfit)} never answers {self.error}")
        return found


@dataclass(frozen=True)
class Delay(FaultSpec):
    """Answer some commands late."""

    name = "delay"
    is_of_emulated = True
    strength = "ms"
    effect = "a share of the commands is slow; others on the same connection wait behind them"

    nodes: NodeNames
    ms: Annotated[int, Whole("Milliseconds.", "ms", least=1, most=3_600_000)]
    commands: Commands = None
    share: Share = 1.0

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"delay of {self.ms} ms"


@dataclass(frozen=True)
class Slow(FaultSpec):
    """Leave nodes little of their processor."""

    name = "slow"
    effect = (
        "all answers are slow as soon as there are more requests than the processor can serve. "
        "Containers get a quota, emulated nodes take longer for each request"
    )

    nodes: NodeNames
    cpu: Annotated[
        float,
        Number("The share of one processor that is left, in percent.", "%", least=0.01, most=50),
    ] = 1.0

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"{self.cpu:g} % of a processor"


@dataclass(frozen=True)
class AofError(FaultSpec):
    """Fill the disks of Redis nodes, so that their append-only files can't be written."""

    name = "aof-error"
    effect = (
        "writes and PING fail with MISCONF, reads do not. A replica ends itself at the next "
        "writes that it gets. It ends with the node's process"
    )

    nodes: RedisNames

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return "full disk"


@dataclass(frozen=True)
class HotKey(FaultSpec):
    """Read one key of nodes all the time."""

    name = "hot-key"
    strength = "rate"
    effect = (
        "the nodes are busy with reads of one key, which come over the links of clients; other "
        "requests wait among them"
    )

    nodes: NodeNames
    key: Annotated[str, Text("The key, whether it is there or not.", sample="session:1")]
    rate: Annotated[
        int,
        Whole("Reads of each node, at most. A slow node gets fewer.", "reads/s", 1, MOST_READS),
    ] = 1000

    def check(self) -> None:
        """See `FaultSpec.check`."""
        if len(self.key.encode()) > LONGEST_KEY or any(it <= " " or it > "~" for it in self.key):
            raise InvalidFault(
                f"hot-key: key must have at most {LONGEST_KEY} ASCII characters and no space, "
                f"got {self.key!r}"
            )

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"{self.rate} reads/s of {self.key}"


@dataclass(frozen=True)
class AuthRotate(FaultSpec):
    """Change the AUTH token, as ElastiCache does."""

    name = "auth-rotate"
    effect = (
        "connections that are open stay. With `rotate` the old and the new token are valid, with "
        "`set` a login with the old one fails with WRONGPASS. The token file has the new one"
    )

    nodes: RedisNames
    strategy: Annotated[
        str, Choice("`rotate`: both are valid. `set`: the new one alone.", words=TOKEN_STRATEGIES)
    ] = SET

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"AUTH token {self.strategy}"


@dataclass(frozen=True)
class BadCertificate(FaultSpec):
    """Give nodes a certificate that clients refuse."""

    name = "bad-certificate"
    effect = (
        "connections that are open stay; new ones fail in the TLS handshake. So do those of "
        "replicas and of the cluster bus, if they have to connect again"
    )

    nodes: NodeNames
    problem: Annotated[str, Choice("What is wrong with it.", words=PROBLEMS)] = EXPIRED

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"certificate: {self.problem}"


@dataclass(frozen=True)
class Expire(FaultSpec):
    """Let keys of Redis primaries and Memcached nodes expire."""

    name = "expire"
    effect = "a share of the keys is missing, once. Healing does not bring them back"

    nodes: NodeNames
    pattern: Annotated[str, Text("Which keys, such as `session:*`.", sample="session:*")]
    share: Annotated[float, Number("The share of these keys.", least=0.00001, most=1)] = 1.0

    @property
    def kind(self) -> str:
        """See `FaultSpec.kind`."""
        return f"expiry of {self.share * 100:g} % of {self.pattern}"


@dataclass(frozen=True)
class Flush(FaultSpec):
    """Empty nodes."""

    name = "flush"
    effect = "all keys are missing, once; of a Redis primary on its replicas too"

    nodes: NodeNames
