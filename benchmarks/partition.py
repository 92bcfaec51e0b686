"""A partition of two zones, applied and healed, compared with as many toxics by toxiproxy-python.

The peer adds and removes them one after the other: on each of the links between the zones, for each
stream, a `bandwidth` of 0. It has an advantage: its proxy objects exist beforehand.
"""

from collections.abc import Mapping
from itertools import chain

from benchmarks.measure import Row, comparison, in_turns, seconds
from cachesim import Simulator

_ZONES = ("a", "b")
_STREAMS = ("upstream", "downstream")
_TOXICS = {"bandwidth": {"rate": 0}}


def run(runs: int) -> str:
    """Measure, and return the figures as Markdown."""
    with Simulator(backend="docker") as sim:
        names = {link.name for link in sim.links.where(lambda link: link.joins(*_ZONES))}
        known = chain.from_iterable(sim.toxiproxy(z).proxies().items() for z in _ZONES)
        proxies = [proxy for name, proxy in known if name in names]
        if len(proxies) != len(names):
            raise RuntimeError(f"of the proxies {names} only {len(proxies)} were found")

        def ours() -> Mapping[str, float]:
            applied = seconds(lambda: sim.faults.partition(*_ZONES))
            (fault,) = sim.faults.active
            return {"applied": applied, "healed": seconds(fault.heal)}

        def theirs() -> Mapping[str, float]:
            def apply() -> None:
                for proxy in proxies:
                    for stream in _STREAMS:
                        for kind, attributes in _TOXICS.items():
                            proxy.add_toxic(type=kind, stream=stream, attributes=attributes)

            def heal() -> None:
                for proxy in proxies:
                    for stream in _STREAMS:
                        # The stall first: while it is there, nothing else may change.
                        for kind in reversed(_TOXICS):
                            proxy.destroy_toxic(f"{kind}_{stream}")

            return {"applied": seconds(apply), "healed": seconds(heal)}

        times = in_turns(runs, {"ours": ours, "peer": theirs})
        toxics = len(names) * len(_STREAMS) * len(_TOXICS)
        return comparison(
            Row(
                f"partition {what}: {toxics} toxics on {len(names)} links",
                times["ours"][what],
                "toxiproxy-python, one after the other",
                times["peer"][what],
            )
            for what in ("applied", "healed")
        )
