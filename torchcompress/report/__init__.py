"""What a run found: as text, as JSON and as one HTML file."""

from torchcompress.report.gate import judge
from torchcompress.report.html import report_to_html
from torchcompress.report.record import (
    Cell,
    Gate,
    GateCheck,
    Report,
    StageRecord,
    Table,
    read_report,
    report_schema,
    report_to_json,
)
from torchcompress.report.text import report_to_text, text_table

__all__ = [
    "Cell",
    "Gate",
    "GateCheck",
    "Report",
    "StageRecord",
    "Table",
    "judge",
    "read_report",
    "report_schema",
    "report_to_html",
    "report_to_json",
    "report_to_text",
    "text_table",
]
