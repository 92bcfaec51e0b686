"""The ports of a start: fixed ones, who has one that is taken, and free ones."""

import contextlib
import socket
import sys
from collections.abc import Collection, Mapping

from cachesim.backends.address_plan import ZonePorts, first_endpoints, first_ports, port_name
from cachesim.errors import PortTaken
from cachesim.runs.registry import living_runs
from cachesim.topology import Topology


def fixed_ports(setting: str | None, topology: Topology) -> dict[str, int]:
    """Return the fixed ports by name, such as `redis-a`, `toxiproxy-a`, `endpoint-redis`.

    Args:
        setting: the setting `ports`, as `Settings` keeps it. A first port also fixes those that
            only containers have, such as `redis-a admin`.
    """
    if setting is None:
        return {}
    if setting.isdecimal():
        zones = first_ports(topology, int(setting))
        ports = {port_name(k, z): port for z, it in zones.items() for k, port in vars(it).items()}
        return ports | first_endpoints(int(setting))
    pairs = (pair.partition("=") for pair in setting.split(","))
    return {name: int(port) for name, _, port in pairs}


def check_free(ports: Mapping[str, int]) -> None:
    """Do nothing if all these ports of 127.0.0.1 are free.

    Args:
        ports: by name.

    Raises:
        PortTaken: the message has those that are taken, and who has them, if that can be known.
    """
    taken: dict[str, list[str]] = {}
    for name, port in ports.items():
        if not _is_free(port):
            taken.setdefault(_holder(port), []).append(f"{port} ({name})")
    if taken:
        told = [f"{', '.join(named)}: {holder}" for holder, named in taken.items()]
        raise PortTaken(
            f"ports are taken: {'; '.join(told)}. Stop who has them, or choose others with the "
            "setting `ports`."
        )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        if sys.platform != "win32":  # connections of a topology that has ended do no harm
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    for run in living_runs():
        if _has(port, (run.env() or {}).values()):
            return (
                f"the topology {run.name!r} of process {run.owner.pid} "
                f"(`cachesim down --name {run.name}` takes it down)"
            )
    import psutil

    try:
        sockets = psutil.net_connections("tcp")
        pids = [it.pid for it in sockets if it.laddr and it.laddr.port == port and not it.raddr]
        for pid in filter(None, pids):
            return f"{psutil.Process(pid).name()}, process {pid}"
    except (psutil.Error, OSError):
        pass  # some systems tell that to root only
    return "a process that can't be seen from here"


def _has(port: int, values: Collection[str]) -> bool:
    addresses = (address for value in values for address in value.split(","))
    return any(it.rpartition(":")[2] == str(port) for it in addresses)


def free_zone_ports(topology: Topology) -> dict[str, ZonePorts]:
    """Return free ports for each zone. All stay bound until the last is found."""
    with contextlib.ExitStack() as held:

        def free() -> int:
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            return int(listener.getsockname()[1])

        return {
            zone.name: ZonePorts(free(), free(), free(), free(), free(), free())
            for zone in topology.zones
        }
