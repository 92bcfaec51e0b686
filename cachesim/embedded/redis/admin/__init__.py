"""What operators see and set: INFO, statistics, settings, the log, versions."""
