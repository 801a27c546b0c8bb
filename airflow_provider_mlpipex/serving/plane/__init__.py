"""The plane's daemon: the supervisor with its state, its processes, leases and control API."""
