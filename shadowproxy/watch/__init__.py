"""`shadowproxy watch`: looks at a log or at running sidecars at intervals, and reports each change of the verdict."""
