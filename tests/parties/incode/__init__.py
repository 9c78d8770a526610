"""Applications of several frameworks, bare and mirrored, and calls of SDKs: they run in the environment `incode`."""
