"""How a program behaves in a terminal: exit codes, and libraries that keep quiet."""

from __future__ import annotations

import logging
import os

TOO_MANY_FAILED = 3
INTERRUPTED = 130


def quiet_libraries() -> None:
    """Prefect and Dask, embedded in a terminal's run, speak up only when something is wrong.

    Warnings of our own are told. Defaults in the environment, which the workers inherit; the
    user's own settings win.
    """
    defaults = {
        "PREFECT_LOGGING_LEVEL": "WARNING",
        # Errors reach the terminal as one line of our own, and the server whole.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DASK_LOGGING__DISTRIBUTED": "error",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    warnings = logging.StreamHandler()
    warnings.setFormatter(logging.Formatter("segpipe: %(message)s"))
    logging.getLogger("segpipe").addHandler(warnings)
