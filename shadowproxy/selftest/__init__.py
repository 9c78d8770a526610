"""What would this report have caught? Faults planted into live's own answers, and from how many requests on each is seen."""
