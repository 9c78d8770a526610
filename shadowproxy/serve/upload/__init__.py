"""Closed segments to an object store, each once, with their summaries, by a process of its own for each round."""
