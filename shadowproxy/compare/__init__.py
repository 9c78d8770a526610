"""What the two answers say: differences, verdicts, summaries and the report."""
