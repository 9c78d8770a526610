"""A log's requests asked again, of another endpoint: what it answers is logged beside what live answered then.

`again.py` makes of a record what can be sent, or says why nothing can; `run.py` sends it at its time and writes the
new log; `told.py` says what came of it.
"""
