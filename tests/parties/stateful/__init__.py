"""Servers that give out IDs, and callers that come back with them."""
