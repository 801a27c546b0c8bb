"""Features: what a model asks a feature service for, and whether training and serving see the same rows."""
