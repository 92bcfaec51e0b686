"""The calls about metrics, alarms and the inbox. They begin the monitoring."""

from collections.abc import Callable, Mapping
from typing import Any

from cachesim.daemon.operations import Operations
from cachesim.daemon.server import Caller
from cachesim.daemon.waiting import until
from cachesim.errors import AlarmTimeout, NotRunning
from cachesim.monitoring.alarms import Watch
from cachesim.monitoring.findings import out_of_reach
from cachesim.monitoring.minutes import MINUTE
from cachesim.monitoring.monitor import Monitor
from cachesim.monitoring.states import State
from cachesim.runs.calls import MINUTES, AlarmStatus, Call, MetricsData
from cachesim.runs.registry import not_running

_LATE = 10.0  # seconds that an alarm may take longer


def monitoring_calls(operations: Operations) -> Mapping[str, Callable[..., object]]:
    """Return what answers the calls about metrics, alarms and the inbox, by call."""
    it = _Answers(operations)
    return {
        Call.METRICS: it.metrics,
        Call.ALARMS: it.alarms,
        Call.WAIT_FOR_ALARM: it.wait_for_alarm,
        Call.INBOX: it.inbox,
    }


class _Answers:
    """Answers the calls about the monitoring."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @property
    def _monitor(self) -> Monitor:
        monitor = self._operations.monitor
        monitor.start()
        return monitor

    def metrics(
        self, _caller: Caller, after: int = 0, running: bool = False, last: bool = False
    ) -> MetricsData:
        monitor = self._monitor
        minutes = monitor.minutes(after)
        return {
            "since": monitor.since,
            "metrics": {
                node: {metric.name: metric.unit for metric in some}
                for node, some in monitor.metrics.items()
            },
            "minutes": [it.as_dict() for it in (minutes[-1:] if last else minutes[:MINUTES])],
            "running": monitor.running().as_dict() if running else None,
        }

    def alarms(self, _caller: Caller) -> list[AlarmStatus]:
        is_emulated = self._operations.backend.name == "embedded"
        return [_status(watch, is_emulated) for watch in self._monitor.watches().values()]

    def inbox(self, _caller: Caller, after: int = 0) -> list[dict[str, Any]]:
        return [message.as_dict() for message in self._monitor.messages(after)]

    def wait_for_alarm(
        self, caller: Caller, alarm: str, state: str, seconds: float | None = None
    ) -> AlarmStatus:
        monitor = self._monitor
        if alarm not in (watches := monitor.watches()):
            raise ValueError(f"no alarm {alarm!r}: there are {', '.join(watches)}")
        if state not in list(State):
            raise ValueError(f"no state {state!r}: there are {', '.join(State)}")
        if seconds is None:
            speed = self._operations.control_plane.timing.speed
            seconds = (watches[alarm].alarm.minutes + 1) * MINUTE / speed + _LATE

        def wait(condition: Callable[[], bool], timeout: float) -> bool:
            holds = monitor.wait(condition, timeout)
            if not holds and monitor.is_over:
                raise NotRunning(not_running(self._operations.provision.name))
            return holds

        # A reset makes another `Watch`.
        in_time = until(caller, wait, lambda: monitor.watches()[alarm].state == state, seconds)
        watch = monitor.watches()[alarm]
        status = _status(watch, self._operations.backend.name == "embedded")
        if not in_time:
            message = (
                f"the alarm {alarm} was not in {state} within {seconds:g} s: it is in "
                f"{watch.state}. {watch.reason}"
            )
            if why := status["out_of_reach"]:
                message += f" It can't fire: {why}"
            raise AlarmTimeout(message)
        return status


def _status(watch: Watch, is_emulated: bool) -> AlarmStatus:
    alarm, value = watch.alarm, watch.value
    return {
        "name": alarm.name,
        "state": str(watch.state),
        "since": watch.since,
        "reason": watch.reason,
        "metric": alarm.label,
        "comparison": alarm.comparison,
        "threshold": alarm.threshold,
        "period": alarm.period,
        "periods": alarm.periods,
        "missing": alarm.missing,
        "level": alarm.level,
        "value": None if value is None else value.value,
        "node": "" if value is None else value.node,
        "actions": sorted({to for some in alarm.actions.values() for to in some}),
        "out_of_reach": out_of_reach(alarm, is_emulated=is_emulated),
        "changes": [
            {
                "old": str(it.old),
                "new": str(it.new),
                "at": it.at,
                "date": it.date.isoformat(),
                "reason": it.reason,
                "value": it.value,
                "node": it.node,
            }
            for it in watch.changes
        ],
    }
