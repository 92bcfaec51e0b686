"""Gate: what is to be seen in time was sampled often enough.

Rule: a threshold in seconds is judged only if it is at least four times the longest gap
between due times of the class, times the speed where figures scale with it. 20 writes a second can
tell 200 ms; at speed 30, 6 s.
"""

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
