"""Settled exchanges from a live process to the recorder, over a pair of sockets, and back what became of them."""
