import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

from torchcompress.report.html import report_to_html
from torchcompress.report.record import Report

VOID = {"meta", "br"}


class Balance(HTMLParser):
    """Checks that every tag is closed in order, and counts tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_one_sound_file_with_a_plot_of_accuracy_and_one_a_latency(
    sample_report: Callable[..., Report],
) -> None:
    page = Balance()
    page.feed(report_to_html(sample_report()))
    assert page.open == []
    assert page.count["svg"] == 1 + 3
    assert page.count["details"] == 3
    assert "script" not in page.count
    assert "link" not in page.count
    assert "img" not in page.count


def test_nothing_is_fetched(sample_report: Callable[..., Report]) -> None:
    text = report_to_html(sample_report())
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)


def test_the_plots_follow_the_colours_of_the_page(sample_report: Callable[..., Report]) -> None:
    text = report_to_html(sample_report())
    assert "prefers-color-scheme: dark" in text
    svg = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--accent)" in svg
    assert not re.search(
        r"#[0-9a-f]{6}\b", re.sub(r'(xlink:href|id)="[^"]*"|url\([^)]*\)', "", svg)
    )


def test_names_from_outside_are_escaped(sample_report: Callable[..., Report]) -> None:
    text = report_to_html(replace(sample_report(), description="<script>alert(1)</script>"))
    assert "<script" not in text
    assert "&lt;fc&gt;" in text


def test_the_gate_and_what_did_not_get_better_are_said(
    sample_report: Callable[..., Report],
) -> None:
    assert "gate passed" in report_to_html(sample_report())
    missed = report_to_html(sample_report(max_file_mb=2, speedup=0.5))
    assert "gate missed" in missed
    assert "asked was at most 2 MB, the result is 2.8 MB" in missed
    assert "It got slower with 1 thread, batch 1" in missed
    assert "not finished" in report_to_html(replace(sample_report(), gate=None))


def test_the_same_report_gives_the_same_page(sample_report: Callable[..., Report]) -> None:
    assert report_to_html(sample_report()) == report_to_html(sample_report())
