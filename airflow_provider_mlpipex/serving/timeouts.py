"""Times that Envoy, the model servers and the readers of their logs have to agree on, in seconds."""

#: For which a model server keeps an idle connection. Envoy gives one up earlier: a request on a connection that is
#: being closed at this very moment would fail, and nobody could know whether it had been answered.
KEEP_ALIVE_S = 60
#: After which a client's request is given up.
REQUEST_TIMEOUT_S = 10.0
#: After which a try of a candidate is given up and the current release answers.
TRY_TIMEOUT_S = 2.0
