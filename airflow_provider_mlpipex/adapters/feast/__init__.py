"""Feast: features for training, and entity rows."""
