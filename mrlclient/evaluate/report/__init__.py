"""What a sweep found as one page: it opens in any browser, runs no script, and asks no network for anything."""

from mrlclient.evaluate.report.page import html, write

__all__ = ["html", "write"]
