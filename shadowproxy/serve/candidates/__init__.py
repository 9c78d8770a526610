"""Shadows that are Python callables: each call runs in a process of its own, or in a thread of the application."""
