"""The log of a model server, which the plane keeps as its server.log: one line an event. These are all its events.

A model server may run in an environment of its own, so this is the standard library's logging, where the plane's own
log has structlog (:mod:`plane_log`).
"""

from __future__ import annotations

import logging
import sys

MODEL_RAISED = "model raised"
NOT_STARTED = "not started"
STANDBY_WAITING = "standby has loaded its model and waits for its turn"

server_log = logging.getLogger("mlpipex.model_server")


def write_to_stdout() -> None:
    """Of this process, whose standard output is its server.log; what a model's libraries log is left to them."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s [%(levelname)s] %(message)s"))
    server_log.addHandler(handler)
    server_log.setLevel(logging.INFO)
    server_log.propagate = False
