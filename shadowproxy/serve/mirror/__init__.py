"""From an offered request to an outcome for each shadow."""
