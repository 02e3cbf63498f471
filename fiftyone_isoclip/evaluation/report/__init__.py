"""Results as one HTML file that anybody can open: tables, plots and pictures, nothing from outside.

Needs neither torch nor a browser to be written.
"""

from fiftyone_isoclip.evaluation.report.page import Page, Pictures, Plot, Table, write_page

__all__ = ["Page", "Pictures", "Plot", "Table", "write_page"]
