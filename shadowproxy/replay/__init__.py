"""A log's requests asked again, of another endpoint: what it answers is logged beside what live answered then.

`plan.py` is what is to be done and what came of it; `again.py` makes of a record what can be sent, or says why nothing
can; `run.py` sends it at its time; `output.py` is the new log; `screen.py` says the outcome in words.
"""
