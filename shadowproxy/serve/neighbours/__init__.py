"""Several live processes share what they know of IDs, so that a session that moves between them is followed."""
