"""A production cache topology on a laptop or in CI, to be broken on purpose.

```python
from cachesim import Simulator

with Simulator(speed=30, seed=7) as sim:
    sim.redis.primary.kill()
    sim.redis.wait_for_failover()
```
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cachesim.errors import CachesimError
    from cachesim.settings import Settings
    from cachesim.simulator.faults import Fault
    from cachesim.simulator.simulator import Simulator

__all__ = ["CachesimError", "Fault", "Settings", "Simulator"]


def __getattr__(name: str) -> Any:
    # Imported when used: the plugin's package is loaded in every pytest run of its users.
    from importlib import import_module

    homes = {
        "CachesimError": "errors",
        "Fault": "simulator.faults",
        "Settings": "settings",
        "Simulator": "simulator.simulator",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
