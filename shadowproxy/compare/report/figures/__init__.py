"""Every figure of the report, computed from a summary: plain JSON values, the source of all other forms."""
