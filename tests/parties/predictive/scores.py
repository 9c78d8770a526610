"""The model that each real server here serves: two scores for each row of three numbers.

Plain Python, as it runs in every server's environment. Under `PLANTED`, requests whose first number is 3 more than a
multiple of 10 get that much more as their last score, and 7 more than one makes it raise.
"""

import os

WEIGHTS = ((0.31, -0.72, 0.15), (-0.43, 0.27, 0.58))
BROKEN = -1.0  # a request that begins with this raises
UNKNOWN = -2.0  # a request that begins with this has NaN as its last score


def scores(rows: list[list[float]]) -> list[list[float]]:
    first, planted = rows[0][0], float(os.environ.get("PLANTED", "0"))
    if first == BROKEN or (planted and first % 10 == 7):
        raise ValueError("the model is broken")
    answer = [[sum(weight * cell for weight, cell in zip(line, row, strict=True)) for line in WEIGHTS] for row in rows]
    if first == UNKNOWN:
        answer[-1][-1] = float("nan")
    elif first % 10 == 3:
        answer[-1][-1] += planted
    return answer
