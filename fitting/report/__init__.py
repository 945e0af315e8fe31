"""Results of a fit: summary, data file, tables, figures and a page."""

from fitting.report.describe import describe_connectome, describe_data
from fitting.report.summary import draw, summarize, table, to_dataset, versions, write_html

__all__ = ["describe_connectome", "describe_data", "draw", "summarize", "table", "to_dataset", "versions", "write_html"]
