"""Log lines of the server: JSON for machines, one short line for people. Never bodies or keys.

Every record made for a request carries its id. Of a message only the first line is kept, and no
traceback: asyncio and others put into the rest what an exception says, and that may quote a body.
"""

import json
import logging
import sys
import time
from typing import Literal

from neva.server.tracing import UNDER_WAY

Format = Literal["auto", "text", "json"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def first_line(record: logging.LogRecord) -> str:
    """What the record says."""
    return record.getMessage().partition("\n")[0][:300]


def details(record: logging.LogRecord) -> dict[str, object]:
    """What was given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record with its extras."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        head = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": first_line(record),
        }
        if UNDER_WAY.get().request_id:
            head["request_id"] = UNDER_WAY.get().request_id
        return json.dumps({**head, **details(record)}, default=str)


class Lines(logging.Formatter):
    """`12:00:00 POST /v1/chat/completions 200 0.41s`, and other records as they are."""

    def format(self, record: logging.LogRecord) -> str:
        """The record in one line."""
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        seen = details(record)
        if record.getMessage() == "request":
            words = f"{seen['method']} {seen['path']} {seen['status']} {seen['seconds']:.3f}s"
        else:
            words = " ".join([first_line(record), *map(str, seen.values())])
        return f"{moment} {words}"


def log_to_stderr(form: Format) -> bool:
    """Send the server's and uvicorn's records to stderr; "auto" is text on a terminal.

    Whether it is text.
    """
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(Lines() if text else JsonLines())
    levels = {"neva": logging.INFO, "uvicorn": logging.WARNING, "asyncio": logging.ERROR}
    for name, level in {**levels, "opentelemetry": logging.WARNING}.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    return text
