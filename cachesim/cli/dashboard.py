"""Serves the web page of a topology that is up: `cachesim dashboard`."""

import json
import sys

from cachesim.daemon.signals import Interrupts
from cachesim.dashboard.serving import served
from cachesim.errors import NotRunning
from cachesim.simulator.simulator import Simulator

_LOOK = 1.0  # seconds within which a request to end, or the topology's end, is noticed


def run(name: str | None, port: int, *, opens: bool, as_json: bool) -> None:
    """Serve the page until an interrupt, or until the topology ends.

    Args:
        name: the topology's name; None: the only free one.
        port: 0: a free one.
        opens: whether to open it in a browser.
        as_json: print the URL as JSON.

    Raises:
        CachesimError: no topology is up, packages are missing, or the port is taken.
    """
    with (
        Interrupts("Ending the dashboard.") as interrupts,
        Simulator.attach(name, lease=False) as sim,
        served(sim, port) as url,
    ):
        if as_json:
            print(json.dumps({"name": sim.name, "url": url}), flush=True)
        else:
            print(f"The dashboard of {sim.name}: {url}", flush=True)
        print("Ctrl-C ends it. The topology goes on.", file=sys.stderr, flush=True)
        if opens:
            import webbrowser

            webbrowser.open(url)
        try:
            while not interrupts.requested:
                sim.events.wait(lambda: interrupts.requested, _LOOK)
        except NotRunning as error:
            print(error, file=sys.stderr)
