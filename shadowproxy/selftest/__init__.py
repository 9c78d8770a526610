"""What would a report have caught? Faults planted into live's own answers, and when each of them is seen."""
