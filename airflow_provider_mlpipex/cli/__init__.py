"""``mlpipex``: the same verbs for a terminal. ``main`` holds the app; each further module is a group of commands."""
