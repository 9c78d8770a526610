"""Many exchanges, counted into a summary that adds up exactly, in any order and grouping, within bounds set here.

Three ideas keep the counts bounded and exact at once. Numbers are counted in bins whose edges are powers of a fixed
ratio (bins.py). Times are counted in blocks aligned to the epoch (counts.py). And of too many things (paths, classes,
examples) those with the smallest hash are kept (samples.py, tables.py): the order of the log makes no difference.
"""
