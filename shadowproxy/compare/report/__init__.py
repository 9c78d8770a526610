"""A summary to a report: its figures, what is decided on them, and the forms that draw them.

- `figures/`: every figure, computed from the summary; `figures/types.py` has the report's JSON key by key.
- `judged.py`: which of the figures stand for the answers.
- `gates.py`, `checks/`: what is allowed, and the table of checks that hold the figures to it (`checks/all.py`).
- `verdict.py`, `advice.py`, `sensitivity.py`: the headline with its sentence, what to do next, and what such a report
  would not see.
- `build.py`: all of this together, as `to_json` returns it.
- `text.py`, `markdown.py`, `junit.py`, `html/`: the forms. They draw what the JSON holds, by the same `sentences/`.
- `show.py`, `tail.py`: single exchanges of a log, for people.
"""
