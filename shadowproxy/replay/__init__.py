"""Sends a log's requests to another endpoint, and records its answers beside live's recorded ones.

`plan.py` has the plan and the counts of a replay; `request.py` turns a record into a request, or a reason why it is not
sent; `run.py` sends each request at its time; `output.py` writes the new log; `screen.py` prints the result.
"""
