"""Training: snapshot, train, evaluate, register."""
