"""The operator's view of a node: INFO, statistics, settings, the log, versions."""
