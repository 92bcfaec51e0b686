"""Scenarios: a timeline of faults under a workload, its history, and the verdict on it."""
