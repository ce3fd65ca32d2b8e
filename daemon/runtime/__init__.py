"""What happens once: settings, clock, schedule, health server, and the bootstrap that fits the rooms together."""
