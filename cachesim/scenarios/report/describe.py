"""From a history and its verdicts to the record that every report is made from."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cachesim.history.reader import History
from cachesim.history.rows import Step
from cachesim.scenarios.checkers import Judgement
from cachesim.scenarios.checkers.faults_seen import problem_of
from cachesim.scenarios.checkers.survey import ClassSurvey, OperationClass, begin_of, survey
from cachesim.scenarios.report.causes import causes
from cachesim.scenarios.report.costs import costs
from cachesim.scenarios.report.meanings import finding
from cachesim.scenarios.report.record import (
    ClassFigures,
    Environment,
    EventRecord,
    PodFigures,
    Record,
    Scenario,
    StepRecord,
)
from cachesim.scenarios.report.slices import Latency, worst_pod
from cachesim.scenarios.report.splits import splits
from cachesim.scenarios.report.untested import untested


def origin_of(history: History) -> float:
    """Return the time that a record's times count from: the end of the baseline."""
    return history.baseline.end if history.baseline else begin_of(history)


def describe(
    history: History,
    judgement: Judgement,
    timeline: Mapping[str, Any],
    latencies: Mapping[OperationClass, Latency | None] | None = None,
) -> Record:
    """Return the record of a run.

    Args:
        timeline: as `Timeline.as_dict` has it.
        latencies: of its operations. Without them the record has none.
    """
    origin = origin_of(history)
    scenario = timeline.get("scenario") or {}
    name = str(scenario.get("name") or "unnamed")
    expect = {key: it for key, it in (scenario.get("expect") or {}).items() if it}
    meta = history.meta
    offset = meta.get("utc_offset")
    begin = begin_of(history)
    date = None if offset is None else datetime.fromtimestamp(begin + offset, UTC)
    return Record(
        scenario=Scenario(
            name=name,
            description=(scenario.get("description") or "").strip(),
            seed=meta.get("seed", timeline.get("seed")),
            expect=expect,
            timeline=dict(timeline),
        ),
        environment=Environment(
            backend=meta.get("backend"),
            speed=history.speed,
            is_cut=bool(meta.get("quiet_cut")),
            settings=meta.get("settings") or {},
            versions=meta.get("versions") or {},
            client=meta.get("client") or {},
            clients=meta.get("clients") or {},
            pods=meta.get("pods"),
            pool=meta.get("pool"),
            deadline=history.deadline,
        ),
        begun=None if date is None else date.isoformat(timespec="seconds"),
        begin=begin - origin,
        end=history.end_at - origin,
        interrupted=history.interrupted,
        again=_again(history, name),
        run=finding(history, judgement.run),
        gates=[finding(history, it) for it in judgement.gates],
        verdicts=[finding(history, it) for it in judgement.verdicts],
        classes=[
            _class(history, of, it, (latencies or {}).get(of))
            for of, it in sorted(history.compute(survey).items())
        ],
        splits=splits(history, origin),
        costs=costs(history),
        causes=causes(history),
        untested=list(untested(history, expect)),
        steps=[_step(history, step, origin) for step in history.steps()],
        events=[
            EventRecord(at=it.at - origin, kind=it.kind, source=it.source, message=it.message)
            for it in history.events()
        ],
    )


def _again(history: History, name: str) -> str:
    """Return the command that does it again: the one recorded, or one that fits the facts."""
    meta = history.meta
    if meta.get("again"):
        return str(meta["again"])
    seed = f" --seed {meta['seed']}" if meta.get("seed") is not None else ""
    return f"cachesim run {name} --speed {history.speed:g}{seed}"


def _class(
    history: History, name: OperationClass, it: ClassSurvey, latency: Latency | None
) -> ClassFigures:
    shares = [pod.bad / pod.due for pod in it.pods.values() if pod.due]
    worst = worst_pod(history, name)
    pod = it.pods.get(worst or "")
    figures = None
    if worst is not None and pod is not None and len(it.pods) > 1:
        outages = [one.high for one in pod.outages(history.end_at)]
        figures = PodFigures(
            pod=worst, due=pod.due, bad=pod.bad, longest_outage=max(outages, default=0.0)
        )
    return ClassFigures(
        name=str(name),
        service=name.service,
        due=it.all.due,
        bad=it.all.bad,
        undecided=it.undecided,
        errors=dict(it.errors.most_common()),
        p50=latency.p50 if latency else None,
        p99=latency.p99 if latency else None,
        slowest=latency.slowest if latency else None,
        average_pod=sum(shares) / len(shares) if shares else 0.0,
        worst_pod=figures,
    )


def _step(history: History, step: Step, origin: float) -> StepRecord:
    def since(at: float | None) -> float | None:
        return None if at is None else at - origin

    return StepRecord(
        id=step.id,
        fault=step.fault,
        target=step.target,
        begin=since(step.begin_call),
        begin_confirmed=since(step.begin_confirmed),
        end=since(step.end_call),
        end_confirmed=since(step.end_confirmed),
        outcome=step.outcome,
        witness=str(step.witness.get("what") or ""),
        problem=problem_of(history, step),
    )
