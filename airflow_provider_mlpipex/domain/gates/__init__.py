"""Gates: numeric criteria on evidence, how people write them, how they are judged, and how two lists of them differ."""
