"""`shadowproxy demo`: two real systems answer real flights."""
