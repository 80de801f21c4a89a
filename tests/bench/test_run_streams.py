"""The bars of runs: first content, chunks a core, many live streams, a start. Their full forms want a quiet machine."""

from __future__ import annotations

import pytest

from tests.bench import first_content, run_streams


@pytest.mark.long
@pytest.mark.promise("RUN-21", "RUN-22", "RUN-24")
async def test_150_live_streams_keep_up_and_cost_a_quarter_of_the_adapters() -> None:
    found = await run_streams.measure(streams=150, seconds=12)
    assert run_streams.holds(found), str(found)


@pytest.mark.long
@pytest.mark.promise("RUN-20")
async def test_first_content_comes_within_ten_milliseconds_of_the_raw_proxy() -> None:
    found = await first_content.measure(200)
    assert first_content.holds(found), str(found)
