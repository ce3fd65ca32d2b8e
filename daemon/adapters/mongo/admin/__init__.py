"""MongoDB operations of commands. The daemon needs few of them."""
