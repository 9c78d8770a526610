"""Why an exchange has no line in the log. A module of its own, as a live process counts losses and has no journal."""

WORKER_ENDED = "worker_ended"
"""A live process was killed before it had handed the exchange over, or before the line was reported as written."""

RECORDER_ENDED = "recorder_ended"
"""The recorder ended, or was lost, before it had reported the line as written."""

IN_APPLICATION = ("client_full", "companion_ended", "no_companion", "not_sent")
"""Why an application has not sent an exchange to its companion: too much waited in its process; the companion had
ended, or could not be started; or any other reason."""

LOSSES = (
    "journal_full", "journal_closed", "disk_full", "write_error", "encode_error", WORKER_ENDED, RECORDER_ENDED,
    *IN_APPLICATION,
)  # fmt: skip
"""A closed set."""
