"""A summary's figures, checks and advice, and the forms that show them."""
