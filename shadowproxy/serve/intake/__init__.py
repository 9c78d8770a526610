"""Exchanges that an application captured itself: received from it in frames, mirrored and recorded as any other."""
