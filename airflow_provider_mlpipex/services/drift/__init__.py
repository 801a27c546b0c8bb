"""Drift: what is served beside what was trained on, whose rows carry it, and the page that shows it."""
