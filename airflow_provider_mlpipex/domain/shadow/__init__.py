"""Answers of two releases to the same requests: differences, flips, slices, and what their distributions alone say."""
