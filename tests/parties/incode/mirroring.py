"""The Shadow of these programs: the server at $SHADOW gets a copy of each request, and the log is in $LOG."""

import os

from shadowproxy import Shadow

shadow = Shadow(
    shadows={"challenger": {"url": os.environ["SHADOW"], "in_flight": 4}},
    log=os.environ["LOG"],
    overload={"loop_lag": "10s"},  # on a busy machine, mirroring would be shed: other tests are for that
)
