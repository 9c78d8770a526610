"""A log as a table: one row for each exchange and shadow, or for each row of a batch, with columns that are fixed.

No column depends on what the log holds, so files of different days and pods can be read as one table, and nothing
depends on the first lines.
"""
