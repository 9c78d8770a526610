"""What the program reports about itself: the operator's log, traces, durations."""
