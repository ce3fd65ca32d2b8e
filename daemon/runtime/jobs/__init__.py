"""What the daemon does beside renewals, each in a task of its own or by the schedule."""
