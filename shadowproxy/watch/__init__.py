"""`shadowproxy watch`: looks at a log or at running sidecars again and again, and tells when the verdict changes."""
