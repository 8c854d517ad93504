"""Where the flows log."""

from __future__ import annotations

import logging

from prefect import get_run_logger
from prefect.exceptions import MissingContextError


def flow_logger(name: str) -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Of the flow run, which the server shows; outside of one, that of the module `name`."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(name)
