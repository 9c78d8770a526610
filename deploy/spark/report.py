"""The report of a fleet's logs, for spark-submit.

    spark-submit report.py 's3://logs/shadow/dt=2026-11-*/' --rules config.yaml --html report.html

Exit status 0 if the report passes, 1 if it fails, 3 if it is inconclusive or there is no data, 2 for an error.
"""

import argparse
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from shadowproxy.fleet import FleetError
from shadowproxy.spark import report

EXITS = {"pass": 0, "fail": 1, "inconclusive": 3, "no data": 3}


def main() -> int:
    parser = argparse.ArgumentParser(description="Report a fleet's logs on Spark.")
    parser.add_argument("logs", nargs="+", help="files, folders, patterns or addresses of logs")
    parser.add_argument("--rules", help="the sidecar's configuration")
    parser.add_argument("--shadow", help="only this shadow")
    parser.add_argument("--since", help="only requests since this time")
    parser.add_argument("--html", type=Path, help="also write the report as HTML")
    parser.add_argument("--json", type=Path, help="also write every figure as JSON")
    given = parser.parse_args()
    spark = SparkSession.builder.appName("shadowproxy report").getOrCreate()
    try:
        found = report(spark, *given.logs, rules=given.rules, shadow=given.shadow, since=given.since)
        if given.html is not None:
            given.html.write_text(found.html())
        if given.json is not None:
            given.json.write_bytes(found.json())
    except (FleetError, OSError) as error:
        sys.stderr.write(f"report.py: {error}\n")
        return 2
    finally:
        spark.stop()
    sys.stdout.write(found.text())
    return EXITS[found.result]


if __name__ == "__main__":
    sys.exit(main())
