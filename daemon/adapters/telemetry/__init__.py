"""What the outside sees of the work: metrics, the log, the last hour. Secrets are redacted here."""
