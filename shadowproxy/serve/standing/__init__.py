"""The standing verdict: the recorder folds the records as it writes them, and says at any time what a report would.

- `budget.py` decides which part of the records is folded, so that it costs next to nothing.
- `settings.py` is what a configuration means for it, and when it has to begin anew.
- `counting.py` has the counts since the beginning, or of a window; `answer.py` says what they mean.
- `state.py` keeps them beside the log across restarts.
- `root.py` is the thread that does all of this: writing the log waits for none of it. `waiting.py` is what is on its
  way there.
"""
