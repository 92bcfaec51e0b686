"""Gate: what is to be seen in time was sampled often enough, and had its time.

Rule: a threshold in seconds is judged only if it is at least four times the longest gap
between due times of the class, times the speed where figures scale with it. 20 writes a second can
tell 200 ms; at speed 30, 6 s.
"""

from cachesim.history.reader import History

SAMPLES = 4


def why_too_thin(threshold: float, gap: float, scale: float = 1.0) -> str | None:
    """Return why a threshold can't be judged, or None if it can.

    Args:
        threshold: seconds.
        gap: the longest time between operations of the class, in seconds.
        scale: the speed, where the figure scales with it, else 1.
    """
    least = SAMPLES * gap * scale
    if threshold >= least:
        return None
    return (
        f"sampled too thinly: gaps of {gap * 1000:.0f} ms between operations tell {least:.3g} s "
        f"or more, not {threshold:.3g} s"
    )


def why_ttls_were_cut(history: History) -> str | None:
    """Return why what depends on TTLs does not pass, or None if they had their time."""
    if not history.meta.get("cuts"):
        return None
    return "holds were cut, and TTLs with them; a run without cuts settles it"
