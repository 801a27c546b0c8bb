"""The log of a plane: one line an event on standard output, its facts as fields. These are all its events.

Those of stages and triggers are in :mod:`observability`. A model server may run in an environment of its own, where
nothing but the standard library can be counted on: its log is :mod:`model_server.server_log`.
"""

from __future__ import annotations

import structlog

PROCESS_RESTARTED = "process restarted"
PROCESS_OUT_OF_MEMORY = "process ended for its memory"
PROCESS_NOT_RECORDED = "process not recorded"
SERVER_HUNG = "model server hung and was killed"
LEASE_ENDED = "lease ended, all traffic goes to current"
WORK_FAILED = "work failed"
MEMORY_REBUILT = "memory lost, endpoint goes on as it was served"
ROLLBACK_RECORDED = "rollback is in the ledger now"
ROWS_NOT_COUNTED = "rows deleted before they were counted"

plane_log = structlog.get_logger("mlpipex.plane")
