"""What the verdicts say of the service, in sentences."""

from collections.abc import Callable, Mapping
from typing import Any

from cachesim.history.reader import History
from cachesim.scenarios.checkers import baseline, faults_seen, generator
from cachesim.scenarios.report import figures
from cachesim.scenarios.report.record import Finding
from cachesim.scenarios.verdict import Result, Verdict

_TITLES = {
    baseline.NAME: "Baseline",
    generator.NAME: "Load generator",
    faults_seen.NAME: "Faults",
    "lost_writes": "Lost acknowledged writes",
    "split_brain": "Writes to a former primary",
    "recovery": "Recovery",
    "connection_storm": "Connection storm",
    "unavailability": "Not served",
    "error_budget": "Error budget",
    "stale_reads": "Stale reads",
    "hit_rate": "Reads that found nothing",
    "herd": "Herd on the origin",
    "remap": "Keys on other nodes",
    "alarms": "Alarm",
    "run": "The run",
}
"""The titles of checkers and gates. Others have their own name."""


def finding(history: History, verdict: Verdict) -> Finding:
    """Return a verdict with its title and its meaning."""
    name, _, of = verdict.name.partition(": ")
    title = _TITLES.get(name, name.replace("_", " ").capitalize())
    told = _MEANINGS.get(name)
    text = told(history, verdict, of) if told and verdict.low is not None else ""
    return Finding(
        **verdict.as_dict(),
        title=f"{title}: {of}" if of else title,
        meaning=f"{text} {_end(verdict)}".strip(),
    )


def fails_otherwise(it: Verdict | Finding) -> bool:
    """Return whether a verdict fails although its figure does not tell why."""
    is_known = it.high is not None and it.high != float("inf")
    is_within = it.threshold is None or (it.high or 0) <= it.threshold
    return it.result == Result.FAIL and is_known and is_within


def _end(verdict: Verdict) -> str:
    if verdict.result is Result.UNKNOWN:
        return f"Not decided: {verdict.reason}."
    if fails_otherwise(verdict):
        return f"{verdict.reason[:1].upper()}{verdict.reason[1:]}."
    if verdict.threshold is None or verdict.low is None:
        return "" if verdict.low is not None else f"{verdict.reason.capitalize()}."
    if verdict.threshold == 0:
        return "None is allowed."
    allowed = figures.amount(verdict.threshold, verdict.unit)
    if verdict.result is Result.PASS:
        return f"That is within the {allowed} allowed."
    return f"Allowed: {allowed}."


def _figure(verdict: Verdict) -> str:
    return figures.interval(verdict.low or 0, verdict.high, verdict.unit)


def _unavailability(history: History, verdict: Verdict, of: str) -> str:
    if verdict.high == 0:
        return f"Every operation of {of} was answered in time, or failed alone."
    scale = "" if history.speed == 1 else " in production"
    times = " altogether" if verdict.details.get("limit") == "total" else ""
    return (
        f"Operations of {of} were not served for {_figure(verdict)}{times}{scale}: they "
        f"failed, or had no answer {figures.seconds(history.deadline)} after they were due."
    )


def _error_budget(_history: History, verdict: Verdict, of: str) -> str:
    return f"{_figure(verdict)} of the operations of {of} were bad."


def _recovery(history: History, verdict: Verdict, _of: str) -> str:
    details = verdict.details
    plane = details.get("control_plane") or [0, 0]
    clients = details.get("clients")
    begin = f"{figures.interval(plane[0], plane[1], 's')} after the last heal all nodes answered"
    if clients is None:
        return f"{begin}. The clients had not come back when the run ended."
    real = "" if history.speed == 1 else " real time"
    more = figures.interval(clients[0], clients[1], "s")
    later = "at once" if clients[1] == 0 else f"{more}{real} later"
    return f"{begin}, and {later} all pods were as before."


def _lost_writes(_history: History, verdict: Verdict, _of: str) -> str:
    known = figures.several(
        verdict.details.get("acknowledged", 0), "acknowledged write", "acknowledged writes"
    )
    gone = "none is gone" if verdict.high == 0 else f"{_figure(verdict)} are gone"
    told = [
        f"the {it['what']} may cost {it['bound']} of the ledger's, and "
        f"{it['lost_ledger_writes']} of them are gone"
        for it in verdict.details.get("windows", ())
        if it["bound"] is not None
    ]
    return f"Of the last {known} of their keys, {'; '.join([gone, *told])}."


def _split_brain(_history: History, verdict: Verdict, _of: str) -> str:
    if verdict.high == 0:
        return "No write was acknowledged by a node that was not the primary any more."
    return f"{_figure(verdict)} were acknowledged by a former primary."


def _stale_reads(_history: History, verdict: Verdict, of: str) -> str:
    if "over_ttl" in verdict.details:
        if verdict.high == 0:
            return f"No value of {of} was read after its TTL."
        return f"A value of {of} was read {_figure(verdict)} after its TTL."
    if verdict.high == 0:
        lost = ", but for what was lost" if verdict.details.get("lost") else ""
        return f"No read of {of} returned less than what was acknowledged before it{lost}."
    return f"The oldest value that {of} read had been replaced {_figure(verdict)} before."


def _connection_storm(_history: History, verdict: Verdict, _of: str) -> str:
    details: Mapping[str, Any] = verdict.details
    scaled = "" if details.get("factor") in (None, 1.0) else ", scaled to production's pods"
    return (
        f"At most {_figure(verdict)} were opened on one node{scaled}; "
        f"{figures.count(details.get('left_open', 0))} are open at the end, "
        f"{figures.count(details.get('open_in_baseline', 0))} were before."
    )


def _hit_rate(_history: History, verdict: Verdict, of: str) -> str:
    before = verdict.details.get("hit_rate_in_baseline")
    told = "" if before is None else f" Before the first fault, {figures.share(1 - before)} did."
    return f"In the worst seconds {_figure(verdict)} of the reads of {of} found nothing.{told}"


def _herd(_history: History, verdict: Verdict, _of: str) -> str:
    details = verdict.details
    before = details.get("baseline") or {}
    most = figures.several(details.get("same_key", 0), "load")
    refused = figures.several(details.get("refused", 0), "load")
    return (
        f"At most {most} of one key were under way at once, {details.get('peak', 0)} began within "
        f"a second ({before.get('peak', 0)} before the first fault), and {refused} were refused."
    )


def _remap(_history: History, verdict: Verdict, of: str) -> str:
    details = verdict.details
    kept, moved = (figures.count(details.get(it, 0)) for it in ("keys", "moved"))
    return f"Of {kept} keys of {of} whose node had no fault, {moved} were asked of another node."


def _alarms(_history: History, verdict: Verdict, of: str) -> str:
    to = " and ".join(verdict.details.get("actions", ()))
    if verdict.details.get("fired_at") is None:
        return f"{of} did not fire."
    return (
        f"{of} fired {_figure(verdict)} after the first fault{f', and went to {to}' if to else ''}."
    )


_MEANINGS: Mapping[str, Callable[[History, Verdict, str], str]] = {
    "unavailability": _unavailability,
    "error_budget": _error_budget,
    "recovery": _recovery,
    "lost_writes": _lost_writes,
    "split_brain": _split_brain,
    "stale_reads": _stale_reads,
    "connection_storm": _connection_storm,
    "hit_rate": _hit_rate,
    "herd": _herd,
    "remap": _remap,
    "alarms": _alarms,
}
