"""Times that Envoy, the model servers and the readers of their logs have to agree on, in seconds."""

#: For which a model server keeps an idle connection. Envoy gives one up earlier: a request on a connection that is
#: being closed at this very moment would fail, and nobody could know whether it had been answered.
KEEP_ALIVE_S = 60
#: After which a client's request is given up, where the plan does not allow a release more.
REQUEST_TIMEOUT_S = 10.0


def request_limit_s(timeout_s: float) -> float:
    """What the current release alone may take over a request, where a plan allows a candidate ``timeout_s``."""
    return max(REQUEST_TIMEOUT_S, timeout_s)
