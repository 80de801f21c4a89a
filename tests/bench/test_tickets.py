"""The bars of ``tickets``, by the round that other work of the machine disturbed least."""

from __future__ import annotations

import pytest

from tests.bench.tickets import BARS, measure


@pytest.mark.long
@pytest.mark.promise("STO-05")
def test_tickets_through_mcp_come_at_the_rates_of_the_claim() -> None:
    rates = {what: 1e6 / min(values) for what, values in measure(300, 5).items()}

    assert all(rate >= BARS[store] for (store, _kind, _era), rate in rates.items()), rates
