"""Outages: from the first bad operation to the first of three good ones."""

from itertools import combinations_with_replacement, pairwise

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


Span = tuple[int, int]
"""The numbers of the first operation of an outage, and of the first good one after it."""


def last_bad(seen: Seen, span: Span) -> int:
    """Return the number of the last bad operation."""
    return max(i for i in range(*span) if not seen[i][1])


def is_enough(seen: Seen) -> bool:
    """Whether at least 5 % are bad."""
    return sum(not good for _, good in seen) * 20 >= len(seen)


def chains_of(seen: Seen, spans: list[Span]) -> list[list[Span]]:
    """Return those together that are less than 250 ms apart."""
    chains: list[list[Span]] = []
    for span in spans:
        if chains and seen[span[0]][0] - seen[chains[-1][-1][1]][0] < 0.25:
            chains[-1].append(span)
        else:
            chains.append([span])
    return chains


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
    joined = []
    for chain in chains_of(seen, spans):
        alike = [
            (i, j)
            for i, j in combinations_with_replacement(range(len(chain)), 2)
            if all(
                is_enough(seen[chain[i][0] : chain[k + 1][0]])
                and is_enough(seen[last_bad(seen, chain[k]) + 1 : last_bad(seen, chain[j]) + 1])
                for k in range(i, j)
            )
        ]
        for i, j in alike:
            if not any((a, b) != (i, j) and a <= i and j <= b for a, b in alike):
                joined.append((chain[i][0], chain[j][1]))
    found = []
    for first, after in joined:
        last = last_bad(seen, (first, after))
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
    gap = draw(st.sampled_from([0.0078125, 0.03125, 0.125]))
    runs = st.tuples(
        st.sampled_from([gap, gap, gap, 0.25, 0.5]),
        st.integers(1, 3),
        st.integers(0, 5) | st.integers(15, 30),
    )
    due, seen = 0.0, []
    for first, bad, good in draw(st.lists(runs, max_size=12)):
        due += first - gap
        for is_good in [False] * bad + [True] * good:
            due += gap
            seen.append((due, is_good))
    return seen


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
    assert not outage.is_open


@pytest.mark.parametrize(("goods", "count"), [(19, 1), (20, 21)])
def test_a_small_share_is_none(goods: int, count: int) -> None:
    """Errors that are less than 5 % are no long outage, however near to each other they are."""
    seen, at = [(0.0, False)], 0.0
    for _ in range(20):
        for _ in range(goods):
            at += 0.003
            seen.append((at, True))
        at += 0.003
        seen.append((at, False))
    outages = track(seen).outages(9)
    assert len(outages) == count
    assert sum(it.bad for it in outages) == 21
    assert all(it.is_full for it in outages) == (count > 1)


def test_rare_errors_around_an_outage() -> None:
    """With 2 % errors before and after it, an outage of 2 s is one of 2 s."""
    down = range(6_000, 6_400)
    seen = [(n / 200, n % 49 > 0 and n not in down) for n in range(12_000)]
    longest = max(track(seen).outages(60), key=lambda it: it.low)
    assert 1.99 <= longest.low <= longest.high <= 2.2
