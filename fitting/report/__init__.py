"""Results of a fit: summary, data file, tables, figures and a page."""

from fitting.report.summary import draw, summarize, table, to_dataset, versions, write_html

__all__ = ["draw", "summarize", "table", "to_dataset", "versions", "write_html"]
