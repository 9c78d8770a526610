"""`shadowproxy judge`: asks a chat model which of two answers is better, and keeps what it says in a file.

Nothing is sent anywhere unless this command is run. Pairs are drawn with known probabilities (`draw`), shown as texts
(`texts`) in one prompt (`prompt`), and asked over HTTP (`endpoint`) until the result is settled or the budget is spent
(`run`).
"""
