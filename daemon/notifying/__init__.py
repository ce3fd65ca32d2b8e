"""Tells owners and operators what happened: stored with the change, relayed, delivered at least once."""
