"""Evidently: an optional report of a drift for people."""
