"""Removes what killed processes of topologies left behind."""

from cachesim.backends.selection import no_engine_configured


def remove_orphans() -> list[str]:
    """Remove the containers of runs whose process has ended, and nothing else.

    Returns:
        The names of their topologies.

    Raises:
        BackendUnavailable: the Docker engine does not answer.
    """
    if no_engine_configured():
        return []
    from cachesim.backends.containers import cleanup, engine

    return cleanup.remove_orphans(engine.connect())
