"""The monitoring of a topology, put together of its parts."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from cachesim.control_plane.evidence import redis_answer
from cachesim.control_plane.plane import ControlPlane
from cachesim.control_plane.prober import Prober
from cachesim.events import EventLog
from cachesim.monitoring import architecture
from cachesim.monitoring.alarms import Alarm
from cachesim.monitoring.monitor import Monitor
from cachesim.monitoring.readings import Readings
from cachesim.servers.admin import NodeClients
from cachesim.settings import Settings
from cachesim.topology import Topology


def alarms_of(settings: Settings, topology: Topology) -> list[Alarm]:
    """Return the alarms of a topology: a file's or the architecture's, and the table's thresholds.

    Raises:
        SettingsError: the file is missing, or has mistakes.
    """
    if settings.alarms is None:
        own = list(architecture.alarms(topology))
    else:
        from cachesim.monitoring.alarm_files import read_alarms

        own = read_alarms(settings.alarms, topology)
    names = {alarm.name for alarm in own}
    return [*own, *(it for it in architecture.thresholds(topology) if it.name not in names)]


def monitor_of(
    name: str,
    topology: Topology,
    settings: Settings,
    admin: NodeClients,
    prober: Prober,
    plane: ControlPlane,
    events: EventLog,
    life: contextlib.ExitStack,
    *,
    link_bytes: Callable[[], Mapping[str, int]],
    is_emulated: bool,
) -> Monitor:
    """Return the monitor of a topology. It runs already if the settings want it.

    Args:
        name: the topology's.
        life: gets how it is ended.
        link_bytes: see `Monitor`.
        is_emulated: whether the nodes have no processes of their own.

    Raises:
        SettingsError: the file with alarms, or with the webhook's URL, is wrong.
    """
    readings = Readings(topology, admin, in_full=True)
    life.callback(readings.close)
    forward: dict[str, Any] = {}
    if settings.webhook_file is not None:
        from cachesim.monitoring.forwarding import Forwarder

        forwarder = Forwarder(settings.webhook_file, events)
        life.callback(forwarder.close)
        forward = {"forward": forwarder.send}

    def offsets() -> dict[str, tuple[float, int]]:
        found = ((node.name, redis_answer(prober.evidence, node.name)) for node in topology.redis)
        return {name: (it.at, it.offset) for name, it in found if it is not None}

    monitor = Monitor(
        name,
        topology,
        alarms_of(settings, topology),
        events,
        read=readings.read,
        offsets=offsets,
        primaries=lambda: {id_: shard.primary for id_, shard in plane.shards.items()},
        speed=lambda: plane.timing.speed,
        link_bytes=link_bytes,
        is_emulated=is_emulated,
        events_to=() if settings.events_to is None else (settings.events_to,),
        **forward,
    )
    life.callback(monitor.close)
    wanted = (settings.alarms, settings.events_to, settings.webhook_file)
    if settings.metrics == "always" or any(it is not None for it in wanted):
        monitor.start()
    return monitor
