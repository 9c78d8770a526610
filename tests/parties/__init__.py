"""Programs that nobody here wrote, as callers of a running proxy and as what it forwards to."""
