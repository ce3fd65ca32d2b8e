"""Provider definitions and the sections that use them."""
