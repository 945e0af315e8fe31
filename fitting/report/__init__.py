"""Results of a fit: summary, data file, tables, figures and a page."""

from fitting.report.describe import describe_connectome, describe_data
from fitting.report.page import draw, write_html
from fitting.report.summary import headline, read_result, summarize, table, to_dataset, versions

__all__ = [
    "describe_connectome",
    "describe_data",
    "draw",
    "headline",
    "read_result",
    "summarize",
    "table",
    "to_dataset",
    "versions",
    "write_html",
]
