"""Late labels: taken in, joined to who served them, judged, and what they put in doubt."""
