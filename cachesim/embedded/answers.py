"""Rules that make a node answer some commands with an error, or late, as faults want it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

CUT_OFF, OTHER_REPLY = "CUT-OFF", "OTHER-REPLY"
"""Answers of Memcached that are no errors: half of the reply and the connection's end, and the
reply of the request before."""


@dataclass(eq=False)
class Rule:
    """What becomes of some commands. Several nodes may share a rule.

    Attributes:
        commands: their names in lower case; empty: all that have keys.
        draw: returns a number from 0 to 1 for each request.
        share: the share of requests that it works on.
        seconds: how much later they are answered.
        answer: what is answered instead, such as `LOADING ...`; empty: what they ask for.
        to: the `host:port` that a redirection names after the slot.
        left: on how many requests it still works; None: on all.
    """

    commands: frozenset[str]
    draw: Callable[[], float]
    share: float = 1.0
    seconds: float = 0.0
    answer: str = ""
    to: str = ""
    left: int | None = None

    def concerns(self, name: str, *, has_keys: bool) -> bool:
        """Return whether it is about a command."""
        return name in self.commands if self.commands else has_keys

    def strikes(self) -> bool:
        """Draw whether it works on a request, and count that."""
        if self.left == 0 or (self.share < 1 and self.draw() >= self.share):
            return False
        if self.left is not None:
            self.left -= 1
        return True


@dataclass
class Answers:
    """The rules of a node. They outlive its processes.

    Attributes:
        cost: seconds of the node's only processor that each request takes; 0: next to none.
        injected: on how many requests a rule has worked.
    """

    rules: Sequence[Rule] = ()
    cost: float = 0.0
    injected: int = 0
    _free_at: float = field(default=0.0, repr=False)

    @property
    def is_active(self) -> bool:
        """Whether any request may be concerned."""
        return bool(self.rules or self.cost)

    @property
    def are_late(self) -> bool:
        """Whether any request may have to wait."""
        return self.cost > 0 or any(rule.seconds for rule in self.rules)

    def take(self, cost: float) -> None:
        """Let each request take so many seconds of a processor for which none waits yet."""
        self.cost, self._free_at = cost, 0.0

    def wait(self, name: str, *, has_keys: bool, now: float) -> float:
        """Return how many seconds a request that has come now has to wait.

        Args:
            now: monotonic seconds.
        """
        seconds = 0.0
        for rule in self.rules:
            if rule.seconds and rule.concerns(name, has_keys=has_keys) and rule.strikes():
                self.injected += 1
                seconds += rule.seconds
        if self.cost:
            self.injected += 1
            self._free_at = max(self._free_at, now) + self.cost
            seconds = max(seconds, self._free_at - now)
        return seconds

    def rule_for(self, name: str, *, has_keys: bool) -> Rule | None:
        """Return the rule that answers a request; None: it gets what it asks for."""
        for rule in self.rules:
            if rule.answer and rule.concerns(name, has_keys=has_keys) and rule.strikes():
                self.injected += 1
                return rule
        return None
