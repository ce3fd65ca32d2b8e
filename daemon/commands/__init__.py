"""The command line: one file for each command, and in `support` what several share."""
