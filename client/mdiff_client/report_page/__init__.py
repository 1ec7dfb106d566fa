"""A store of volumes as one HTML file to look at: figures and their judgement, charts, and the page itself."""

from mdiff_client.report_page.page import write_page
from mdiff_client.report_page.reporting import Real, Report, make_report

__all__ = ["Real", "Report", "make_report", "write_page"]
