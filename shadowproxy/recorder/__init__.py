"""A settled exchange to its line of the log."""
