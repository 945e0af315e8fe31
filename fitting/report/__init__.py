"""Results of a fit: summary, data file, tables, figures and a page."""

from fitting.report.compare import comparison_table, find_runs, read_runs, write_csv
from fitting.report.describe import describe_connectome, describe_data
from fitting.report.page import draw, write_html
from fitting.report.results import read_fit, to_dataset
from fitting.report.summary import Summary, headline, summarize, summarize_simulation, versions
from fitting.report.tables import table

__all__ = [
    "Summary",
    "comparison_table",
    "describe_connectome",
    "describe_data",
    "draw",
    "find_runs",
    "headline",
    "read_fit",
    "read_runs",
    "summarize",
    "summarize_simulation",
    "table",
    "to_dataset",
    "versions",
    "write_csv",
    "write_html",
]
