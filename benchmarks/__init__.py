"""Ratios, each measured side by side in one run. Absolute times depend on the machine; ratios travel better."""
