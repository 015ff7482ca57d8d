"""Reporting: HTML report, tables, figures, videos, loggers."""
