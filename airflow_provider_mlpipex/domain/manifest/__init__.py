"""The deployment manifest: its blocks as models, its JSON Schema, and the typed difference between two of them."""
