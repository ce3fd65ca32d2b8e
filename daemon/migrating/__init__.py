"""Moving tokens in from an application's store, beside it while it lives, and out again; and backups of the own one."""
