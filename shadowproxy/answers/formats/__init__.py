"""The formats of answers that are neither JSON nor streams of it, one in each module: bytes to a value, or a reason.

Each module names its source and the version of the server whose bytes it was tried on. It raises `Malformed` or
`Unsupported` for whatever bytes come, `Exhausted` where reading costs more than the budget, and nothing else.
"""
