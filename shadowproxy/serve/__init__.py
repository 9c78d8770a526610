"""The sidecar: everything between the caller, live, the shadows and the log."""
