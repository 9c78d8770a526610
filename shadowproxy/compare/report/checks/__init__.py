"""A report's figures to checks: each holds one figure of the shadow to what is allowed.

A check passes when the whole interval lies within what is allowed, fails when all of it lies outside, and is
inconclusive when it straddles the line; no data is never a pass. Shares are held by the confidence sequence, so that
looking at the report every hour does not find by chance what one look would not.

The rules that the checks share:

1. Pairs are the requests that live answered and that the shadow was really sent. An answer that is missing, unrelated,
   out of range or an error counts against the shadow, never for it.
2. What happens as often in live on the same requests is not held against the shadow: losses are net.
3. Every check names the place in the answers that it judged, and the route where only one route is meant.
"""
