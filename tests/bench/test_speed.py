"""The bars of ``speed`` that are far enough from what is measured to hold beside any other work of the machine."""

from __future__ import annotations

import pytest

from tests.bench.measuring import Report
from tests.bench.speed import FLOOR, OURS, calls, lists, rows, streams


@pytest.mark.promise("MCP-21")
def test_an_authenticated_call_takes_little_more_than_bare_starlette() -> None:
    report = Report()
    calls(report, requests=150, rounds=5, names=(OURS, FLOOR), bar=0.65)
    assert not report.fallen, report.lines


@pytest.mark.long
@pytest.mark.promise("MCP-21")
def test_an_authenticated_call_reaches_four_fifths_of_bare_starlette_in_both_eras() -> None:
    report = Report()
    calls(report, requests=500, rounds=9, names=(OURS, FLOOR))
    assert not report.fallen, report.lines


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
@pytest.mark.promise("MCP-22", "MCP-23")
def test_a_project_is_read_as_fast_as_promised_and_a_page_takes_no_longer_among_100_000() -> None:
    report = Report()
    rows(report, requests=200, rounds=7, projects=100_000)
    assert not report.fallen, report.lines
