"""Measures the project beside its peers: `make bench`, or `python -m bench`. bench/README.md tells of the figures."""
