"""Figures in sentences that every form of the report draws alike. Texts from the log are not yet safe to print."""
