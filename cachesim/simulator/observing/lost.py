"""The writes that were lost, as a list that a failing assertion can show."""

from collections.abc import Iterable

from cachesim.history.rows import Operation


class LostWrites(list[Operation]):
    """Writes that Redis acknowledged and does not have any more, in the order they were due.

    Args:
        acknowledged: how many writes Redis has acknowledged.
        begin: when the observation began, in monotonic seconds.
    """

    def __init__(self, lost: Iterable[Operation], acknowledged: int, begin: float) -> None:
        super().__init__(lost)
        self._acknowledged, self._begin = acknowledged, begin

    def __repr__(self) -> str:
        if not self:
            return "[]"
        first, last = (self[number].due - self._begin for number in (0, -1))
        return (
            f"<{len(self)} of {self._acknowledged} acknowledged writes, "
            f"which were due from second {first:.2f} to {last:.2f}>"
        )
