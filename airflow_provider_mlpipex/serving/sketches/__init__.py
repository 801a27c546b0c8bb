"""Counts of what was served, in bins that were fixed at registration."""
