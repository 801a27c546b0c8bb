"""Git: the version of the team's code."""
