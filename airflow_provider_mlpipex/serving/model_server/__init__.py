"""The process that runs one release: a model behind a unix socket, and its features."""
