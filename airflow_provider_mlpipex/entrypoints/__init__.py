"""Processes and applications that are started from outside: the plane's daemon, the HTTP API."""
