"""A serving process's settings of its interpreter and of the operating system."""
