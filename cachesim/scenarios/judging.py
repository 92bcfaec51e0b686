"""The verdict on a run, from its history alone: no topology is needed, and it can be made again."""

from collections.abc import Iterable

from cachesim.history.reader import History
from cachesim.scenarios.checkers import Checker, Judgement, expectations, judge
from cachesim.scenarios.checkers.baseline import Steady


def judgement_of(history: History, others: Iterable[Checker] = ()) -> Judgement:
    """Return the verdict on a run, on what its scenario expects.

    Args:
        others: checkers of the user.
    """
    expected = expectations.read(history.meta.get("expect") or {})
    return judge(history, expected, Steady.by_service(history.meta.get("steady") or {}), others)
