"""A rollout's verbs: open, review, trial, promote, watch, roll back; and what they share."""
