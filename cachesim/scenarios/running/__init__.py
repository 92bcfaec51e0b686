"""The parts of a run: the clock, what fires the faults, and what watches beside the workload."""
