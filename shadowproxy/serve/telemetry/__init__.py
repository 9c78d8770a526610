"""What the program says of itself: the operator's log, traces, durations."""
