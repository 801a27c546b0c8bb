"""The embedded serving plane as its ports see it: the plane's control API, its runtimes, its endpoints."""
