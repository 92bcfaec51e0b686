"""Limits of a server's process in a container, changed while it runs.

A container's own limits can't be changed later. `prlimit` (util-linux) changes those of a process;
it runs as the server's user, and needs no privilege to go below the hard limit and back.
"""

from typing import TYPE_CHECKING

from cachesim.backends.address_plan import MEMCACHED_UID, REDIS_UID
from cachesim.errors import FaultError

if TYPE_CHECKING:
    from docker.models.containers import Container

_LEAST = 4096
"""Bytes that a server may write at least: its `nodes.conf` has to fit, or it ends itself."""
_AS_HARD = "prlimit --pid 1 --{0}=$(prlimit --pid 1 --{0} --noheadings --output HARD | tr -d ' '):"
# The newest part of the append-only file is the one that grows.
_SIZE = 'stat -c %s "$(ls -t /data/appendonlydir/*.incr.aof | head -n 1)"'


def limit_files(container: "Container", spare: int | None) -> None:
    """Limit how far a Redis server may write its files.

    What is written beyond the limit fails as on a full disk. The signal that Linux sends then is
    ignored, as the server is the first process of its container.

    Args:
        spare: bytes that its append-only file may grow by; None: as far as at the start.

    Raises:
        FaultError: it failed.
    """
    if spare is None:
        _run(container, _AS_HARD.format("fsize"), REDIS_UID)
        return
    script = f"size=$(({_SIZE.join(('$(', ')'))} + {spare})) && "
    script += f"prlimit --pid 1 --fsize=$((size < {_LEAST} ? {_LEAST} : size)):"
    _run(container, script, REDIS_UID)


def limit_open_files(container: "Container", more: int | None) -> None:
    """Limit how many files, connections among them, a Memcached server may open.

    Beyond the limit it does not accept a connection until it has closed another one, as at its
    limit of connections (`-c`) without `maxconns_fast`.

    Args:
        more: how many more than now, or fewer; None: as many as at the start.

    Raises:
        FaultError: it failed.
    """
    if more is None:
        _run(container, _AS_HARD.format("nofile"), MEMCACHED_UID)
        return
    script = f"prlimit --pid 1 --nofile=$(($(ls /proc/1/fd | wc -l) + {more})):"
    _run(container, script, MEMCACHED_UID)


def _run(container: "Container", script: str, uid: int) -> None:
    """Run a shell script in a container.

    Raises:
        FaultError: it failed.
    """
    code, output = container.exec_run(["sh", "-c", script], user=str(uid))
    if code:
        said = output.decode(errors="replace").strip() if isinstance(output, bytes) else code
        raise FaultError(
            f"the limits of {container.name} can't be changed: {said}. Its image needs `prlimit`, "
            "which is in the package util-linux"
        )
