"""What one configuration builds, and the change to the next."""
