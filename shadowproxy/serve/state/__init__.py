"""Stateful APIs: which of live's IDs a shadow has its own for, and requests with these in live's place."""
