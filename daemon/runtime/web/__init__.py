"""The health server: probes, metrics and the status page."""
