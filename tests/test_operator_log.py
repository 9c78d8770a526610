"""The operator's log tells its reader, and waits for nobody."""

import io
import logging
import subprocess
import sys

from shadowproxy.serve.operator_log import PATIENCE, OperatorLog


def said(text: str) -> logging.LogRecord:
    return logging.LogRecord("shadowproxy", logging.WARNING, __file__, 1, text, None, None)


def test_a_line_is_written_with_its_time_and_level() -> None:
    stream = io.StringIO()
    log = OperatorLog(stream)
    log.emit(said("a shadow answers again"))
    log.close()
    assert stream.getvalue().endswith(" WARNING a shadow answers again\n")
    assert stream.getvalue().count("\n") == 1


def test_a_reader_that_does_not_read_holds_up_nobody() -> None:
    script = (
        "import logging, time; from shadowproxy.serve.operator_log import WAITING, OperatorLog; "
        "log = OperatorLog(); began = time.monotonic(); "
        "line = logging.LogRecord('a', logging.INFO, '', 1, 'x' * 1000, None, None); "  # a pipe holds 64 KiB
        "[log.emit(line) for _ in range(3 * WAITING)]; print(time.monotonic() - began, flush=True); log.close()"
    )
    run = [sys.executable, "-c", script]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert float(program.stdout.readline()) < PATIENCE
        assert program.wait(10 * PATIENCE) == 0


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_is_gone_ends_nothing() -> None:
    log = OperatorLog(Gone())
    log.emit(said("to nobody"))
    log.emit(said("to nobody still"))
    log.close()
    assert not log._thread.is_alive()
