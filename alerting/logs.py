"""Logs: one JSON object a line in service, colours for people in front of a terminal. Keys, never a person."""

import logging
import sys

import structlog


def configure(style: str = "json") -> None:
    """`json`, or `plain` for people."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if style == "plain"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # pika tells of every lost connection itself, with a traceback; amqp.py says it once.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
