"""The bars of ``speed`` that are far enough from what is measured to hold beside any other work of the machine."""

from __future__ import annotations

import pytest

from tests.bench.speed import Report, lists, rows, streams


@pytest.mark.promise("MCP-23")
def test_a_list_of_200_tools_costs_at_most_twice_one_of_10() -> None:
    report = Report()
    lists(report, requests=150, rounds=5)
    assert not report.fallen, report.lines


@pytest.mark.promise("MCP-24")
def test_a_thousand_open_streams_take_at_most_40_kilobytes_each() -> None:
    report = Report()
    streams(report, 1000)
    assert not report.fallen, report.lines


@pytest.mark.long
@pytest.mark.promise("MCP-23")
def test_a_page_of_projects_takes_no_longer_among_100_000() -> None:
    report = Report()
    rows(report, requests=100, rounds=5, projects=100_000)
    assert "MCP-23" not in report.fallen, report.lines
