"""The standing verdict: the recorder folds the records as it writes them, and says at any time what a report would.

- `budget.py` decides which part of the records is folded, so that it costs next to nothing.
- `settings.py` is what a configuration means for it, and when counting has to start over.
- `counting.py` has the counts since the beginning, or of a window; `answer.py` says what they mean.
- `course.py` is what was counted since one beginning: how it starts over, goes on, and is kept beside the log across
  restarts (`keeping.py`, `state.py`).
- `reports.py` makes the reports, has the latest verdict and logs which word has changed.
- `root.py` is the thread that does all of this: writing the log waits for none of it. `waiting.py` is the queue of
  lines on their way there, `folding.py` takes them off.
"""
