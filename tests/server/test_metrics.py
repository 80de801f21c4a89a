"""The cost and the bounds of what is counted."""

from server.metrics import Metrics


def series(metrics: Metrics) -> list[str]:
    return [
        line for line in metrics.render().decode().splitlines() if line.startswith("innkeeper_http_requests_total{")
    ]


def test_made_up_methods_share_one_series() -> None:
    metrics = Metrics()
    for number in range(50):
        metrics.observe_request("/mcp", f"EVIL{number}", 405, 0.001)
    assert series(metrics) == ['innkeeper_http_requests_total{method="OTHER",route="/mcp",status="405"} 50.0']


def test_two_applications_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.observe_request("/mcp", "POST", 200, 0.001)
    assert series(second) == []


def test_a_gauge_is_read_at_the_scrape_and_not_before() -> None:
    metrics, reads = Metrics(), []

    def read() -> dict[str, float]:
        reads.append(1)
        return {"open": 1}

    metrics.add_gauges("innkeeper_pool_connections", "Connections.", "state", read)
    assert reads == []
    metrics.render()
    assert reads == [1]
