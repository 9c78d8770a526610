"""Whether a request whose reused connection ended may be sent again: the connection had been closed while it was idle.

Pure. RFC 9110 section 9.2.2 leaves the decision to what a proxy knows; what it knows is below.
"""

IDLE_CLOSE = 0.1
"""Seconds. A reused connection that ends so soon after a request was sent by it, without a byte of a response, may have
been closed while it was idle: the closing and the request passed each other on their way. That is seen within one round
trip, and later by as long as this process was kept waiting for a processor. A connection that ends later ended while
the server had the request, and may have worked on it: a POST that a model had worked on for 0.3 s was sent to it twice.
"""

RESET_CLOSE = 0.02
"""Seconds. A kernel resets a connection that is closed with a request unread, and ends one politely whose request was
read: a reset that comes so soon shows that the server had closed. MLServer closes after each error response,
unannounced, and the next POST met that in most tries. A reset that comes later may be a server's own, after it had
worked.
"""

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""These change nothing (RFC 9110 section 9.2.1), so that within IDLE_CLOSE they are sent again. For all others the
kernel is asked as well: where a server had closed before the request came to it, its closing does not acknowledge the
request. A model that took a POST and died after 5 ms was given it twice.
"""


def was_closed_while_idle(method: str, since: float, *, reset: bool, unacknowledged: bool) -> bool:
    """Whether the connection was closed before the server had the request, which was sent `since` seconds ago.

    `reset` is how it ended; `unacknowledged`, whether the server's kernel had not accepted all of the request.
    """
    if since > IDLE_CLOSE:
        return False
    if method in SAFE:
        return True
    # A reset shows nothing of what came before: a kernel may put off acknowledging, and then never does it.
    return since <= RESET_CLOSE if reset else unacknowledged
