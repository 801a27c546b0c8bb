"""What is released: model and runtime versions, dataset snapshot, and the training they come from."""
