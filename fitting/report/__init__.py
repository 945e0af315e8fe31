"""Results of a fit: summary, data file, tables, figures and a page."""

from fitting.report.compare import comparison_table, find_runs, read_runs, write_csv
from fitting.report.describe import describe_connectome, describe_data
from fitting.report.page import draw, write_html
from fitting.report.summary import headline, read_result, summarize, summarize_simulation, table, to_dataset, versions

__all__ = [
    "comparison_table",
    "describe_connectome",
    "describe_data",
    "draw",
    "find_runs",
    "headline",
    "read_result",
    "read_runs",
    "summarize",
    "summarize_simulation",
    "table",
    "to_dataset",
    "versions",
    "write_csv",
    "write_html",
]
