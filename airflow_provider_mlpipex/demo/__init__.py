"""The story that ``make demo`` plays: real data and a real model, both importable from a manifest."""
