"""Result rows -> tables, plots, one self-contained HTML page; never imports torch."""

from datawinnow.core.callable_module import make_callable
from datawinnow.report.comparison import comparison_markdown
from datawinnow.report.page import write
from datawinnow.report.results import rows
from datawinnow.report.table import table
from datawinnow.report.text import markdown_table, text_table

__all__ = ["comparison_markdown", "markdown_table", "rows", "table", "text_table", "write"]

make_callable(__name__, "datawinnow.api.report:report")  # datawinnow.report(...), as the verb
