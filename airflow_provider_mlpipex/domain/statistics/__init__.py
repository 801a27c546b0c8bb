"""What numbers may be said to show: confidence sequences, and summaries of samples that add up."""
