"""Several worker processes as one sidecar."""
