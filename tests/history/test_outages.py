"""Outages: from the first bad operation to the first of three good ones."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachesim.history.outages import Outage, Track

Seen = list[tuple[float, bool]]


def track(seen: Seen, begin: float = 0.0) -> Track:
    """Return a track that has seen operations, as (due, good)."""
    made = Track(begin)
    for due, good in seen:
        made.add(due, good)
    return made


def oracle(seen: Seen, begin: float, end: float) -> list[Outage]:
    """Return the outages, by the words of the rule."""
    n = len(seen)
    spans = []  # [first, after): numbers of the first bad one and of the first of three good ones
    number = 0
    while number < n:
        if seen[number][1]:
            number += 1
            continue
        after = number
        while after < n and not (
            after + 3 <= n and all(good for _, good in seen[after : after + 3])
        ):
            after += 1
        spans.append((number, after))
        number = after
    joined: list[tuple[int, int]] = []
    for first, after in spans:
        if joined and seen[first][0] - seen[joined[-1][1]][0] < 0.25:
            joined[-1] = (joined[-1][0], after)
        else:
            joined.append((first, after))
    found = []
    for first, after in joined:
        last = max(i for i in range(first, after) if not seen[i][1])
        bad = sum(not good for _, good in seen[first:after])
        goods = [due for due, good in seen[:first] if good]
        before = goods[-1] if goods else begin
        stop = seen[after][0] if after < n else end
        found.append(
            Outage(
                seen[first][0], seen[last][0], stop, before, bad, first + 1, last + 1, after == n
            )
        )
    return found


@st.composite
def operations(draw: st.DrawFn) -> Seen:
    """Return operations with gaps around 250 ms, more good ones than bad."""
    gaps = draw(st.lists(st.sampled_from([0.03125, 0.0625, 0.125, 0.25, 0.5]), max_size=40))
    due = accumulate(gaps)
    return [(at, draw(st.sampled_from([True, True, True, False]))) for at in due]


@given(operations())
def test_as_the_rule_says(seen: Seen) -> None:
    """The outages of any operations are those that the rule, read literally, has."""
    assert track(seen, -1.0).outages(100.0) == oracle(seen, -1.0, 100.0)


@given(operations())
def test_counts(seen: Seen) -> None:
    """What was due and bad is counted, and the longest gap is known."""
    made = track(seen)
    assert (made.due, made.bad) == (len(seen), sum(not good for _, good in seen))
    due = [0.0, *(at for at, _ in seen), 20.5]
    assert made.gap(20.5) == max(b - a for a, b in pairwise(due))


def test_exactly_apart() -> None:
    """Outages 250 ms apart are two, nearer ones are one."""
    for apart, count in ((0.25, 2), (0.2499, 1)):
        goods = [(1.0, True), (1.1, True), (1.2, True)]
        seen = [(0.5, False), *goods, (1.0 + apart, False)]
        assert len(track(seen).outages(9)) == count


def test_lasts_between_its_bad_and_the_good_around() -> None:
    """An outage lasts at least between its bad ones, at most between the good ones around it."""
    seen = [(1, True), (2, False), (3, False), (4, True), (5, True), (6, True)]
    [outage] = track([(float(at), good) for at, good in seen]).outages(9)
    assert (outage.low, outage.high) == (1, 3)
    assert outage.is_full
    assert outage.counts
    assert not outage.is_open


@pytest.mark.parametrize(("due", "counts"), [(40, True), (41, False)])
def test_exactly_five_percent(due: int, counts: bool) -> None:
    """Two bad ones of forty are an outage."""
    assert Outage(0, 1, 2, -1, 2, 1, due).counts == counts


@pytest.mark.parametrize(("goods", "counts"), [(19, True), (20, False)])
def test_a_small_share_is_none(goods: int, counts: bool) -> None:
    """With less than 5 % bad, it is no outage but the error budget's."""
    # Bad ones 60 ms apart with many good ones between: one outage, as the ends are near.
    seen, at = [(0.0, False)], 0.0
    for _ in range(400 // goods):
        for _ in range(goods):
            at += 0.003
            seen.append((at, True))
        at += 0.003
        seen.append((at, False))
    [outage] = track(seen).outages(9)
    assert outage.counts == counts
    assert not outage.is_full
