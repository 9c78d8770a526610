"""What a serving process arranges with its interpreter and the operating system."""
