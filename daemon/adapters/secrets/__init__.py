"""Sources of secrets outside this machine's files: one module for each kind. Clouds are imported only when named."""
