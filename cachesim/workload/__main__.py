"""The process of all pods. `cachesim.workload.pods` starts this file, and orders on its stdin."""

import json
import os
import sys


def main() -> None:
    """Import the package from where the owner does, and do what it orders."""
    order = json.loads(sys.stdin.buffer.readline() or b"null")
    if order is None:
        return  # the owner has ended
    # The standard library first, or a `queue.py` beside the owner's script would be taken for it.
    standard = os.path.dirname(os.__file__)  # noqa: PTH120  # pathlib is not imported yet
    own = (standard, os.path.join(standard, "lib-dynload"))  # noqa: PTH118
    sys.path[:] = sorted(order["import_path"], key=lambda entry: entry not in own)
    from cachesim.workload.host import main

    main(order)


if __name__ == "__main__":
    main()
