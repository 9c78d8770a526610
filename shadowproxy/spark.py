"""The report of a fleet's logs on Apache Spark: one task for each file or part of a long one, and a tree of merges.

Tried with PySpark 4.3. The driver and the executors need this package; `spark-submit --py-files` is not enough, as it
has compiled dependencies: install it in the cluster's image or environment.
"""

from pathlib import Path
from typing import Any

from shadowproxy.fleet import FleetReport, Fold

__all__ = ["FleetReport", "Fold", "report", "summary"]

_DEPTH = 3  # of the tree: executors merge most summaries, the driver few


def report(spark: Any, *paths: str | Path, rules: str | Path | None = None, **options: Any) -> FleetReport:
    """The report of all logs at these paths: files, folders, patterns, `s3://bucket/dt=2026-11-*/`.

    Args:
        spark: a SparkSession.
        rules: the sidecar's configuration, whose rules answers are compared by.
        options: as `shadowproxy.fleet.Fold` takes them.

    Raises:
        OSError: a path cannot be listed, or has no segments.
        shadowproxy.fleet.FleetError: an option cannot be used.
    """
    fold = Fold(rules, **options)
    return fold.report(summary(spark, fold, *paths))


def summary(spark: Any, fold: Fold, *paths: str | Path) -> bytes | None:
    """The summary of all logs at these paths; None if there are no files."""
    tasks = fold.tasks(*paths)
    if not tasks:
        return None
    merged: bytes = spark.sparkContext.parallelize(tasks, len(tasks)).map(fold.summarise).treeReduce(fold.merge, _DEPTH)
    return merged
