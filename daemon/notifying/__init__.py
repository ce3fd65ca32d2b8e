"""Events for owners and operators: stored with the change, relayed, delivered at least once."""
