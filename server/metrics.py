"""Prometheus metrics of one process: requests, and what is read at the scrape (runs, connection pool).

Each :class:`Metrics` owns its registry, so that several applications in one process (tests) never share a counter.
Label values come from closed sets only (route templates, known methods), so no caller can make the series grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"})

Gauges = Callable[[], Mapping[str, float]]


class Figures(Collector):
    """What has to be asked for before it can be collected."""

    async def read(self) -> None:
        """Ask. What cannot be known now is not shown; nothing is raised."""
        raise NotImplementedError


class Metrics:
    """What ``/metrics`` shows. Observing a request costs two dictionary look-ups and three additions; it is done on
    the event loop only, so nothing is locked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = _Requests()
        self.registry.register(self._requests)
        self._figures: list[Figures] = []

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request. ``route`` is the template (``/mcp``), never the path that was asked for."""
        requests = self._requests
        key = (route, method if method in _METHODS else "OTHER", status)
        requests.counts[key] = requests.counts.get(key, 0) + 1
        latency = requests.latencies.get(route)
        if latency is None:
            latency = requests.latencies[route] = _Latency()
        latency.counts[bisect_left(_BUCKETS, seconds)] += 1
        latency.seconds += seconds

    def add_gauges(self, name: str, help: str, label: str, read: Gauges) -> None:
        """Show ``read()`` (label value to number), called at each scrape, as the gauge ``name``."""
        self.registry.register(_Reader(name, help, label, read))

    def add_figures(self, figures: Figures) -> None:
        """Show what ``figures`` collects, read anew before each scrape."""
        self._figures.append(figures)
        self.registry.register(figures)

    async def read(self) -> None:
        """To be awaited before :meth:`render`."""
        for figures in self._figures:
            await figures.read()

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)


class _Latency:
    """Requests by the first bucket they fit in, those over the last one at the end; and their time together."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.seconds = 0.0


class _Requests(Collector):
    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, int], int] = {}
        self.latencies: dict[str, _Latency] = {}

    def collect(self) -> Iterator[Metric]:
        served = CounterMetricFamily(
            "innkeeper_http_requests", "HTTP requests served.", labels=["route", "method", "status"]
        )
        for (route, method, status), count in self.counts.items():
            served.add_metric([route, method, str(status)], count)
        yield served
        taken = HistogramMetricFamily(
            "innkeeper_http_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            labels=["route"],
        )
        for route, latency in self.latencies.items():
            below, buckets = 0, []
            for bound, count in zip((*map(str, _BUCKETS), "+Inf"), latency.counts, strict=True):
                below += count
                buckets.append((bound, float(below)))
            taken.add_metric([route], buckets, latency.seconds)
        yield taken


class _Reader(Collector):
    def __init__(self, name: str, help: str, label: str, read: Gauges) -> None:
        self._name = name
        self._help = help
        self._label = label
        self._read = read

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Named without being read: registering must not touch the pool."""
        yield GaugeMetricFamily(self._name, self._help, labels=[self._label])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._help, labels=[self._label])
        for value, number in self._read().items():
            family.add_metric([value], number)
        yield family
