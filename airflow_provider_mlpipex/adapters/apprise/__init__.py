"""Apprise: alerts to on-call."""
