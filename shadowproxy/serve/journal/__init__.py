"""Settled exchanges to lines on a disk."""
