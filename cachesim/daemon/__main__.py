"""The process of a topology. Its owner starts this file, and orders a topology on its stdin."""

import gc
import json
import os
import sys


def main() -> int:
    """Import the package from where the owner does, and do what it orders."""
    order = json.loads(sys.stdin.buffer.readline() or b"null")
    if order is None:
        return 0  # the owner has ended
    # The standard library first, or a `queue.py` beside the owner's script would be taken for it.
    standard = os.path.dirname(os.__file__)  # noqa: PTH120  # pathlib is not imported yet
    own = (standard, os.path.join(standard, "lib-dynload"))  # noqa: PTH118
    sys.path[:] = sorted(order["path"], key=lambda entry: entry not in own)
    gc.disable()  # until the topology is up: there is no garbage, and looking for it takes 0.05 s
    from cachesim.daemon.process import run

    return run(order["owner"], order["like"])


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # all is taken down: without this, Python cleans up its memory for 0.2 s
