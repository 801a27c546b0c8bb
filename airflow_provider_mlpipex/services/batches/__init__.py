"""Batches: a table scored through an endpoint, and who sent the rows that it answered."""
