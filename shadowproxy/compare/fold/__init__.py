"""Many exchanges, read and counted into a summary that merges exactly."""
