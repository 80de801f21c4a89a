"""Prometheus metrics of one process: requests, and what is read at the scrape (runs, connection pool).

Each :class:`Metrics` owns its registry, so that several applications in one process (tests) never share a counter.
Label values come from closed sets only (route templates, known methods), so no caller can make the series grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"})

Gauges = Callable[[], Mapping[str, float]]


class Metrics:
    """What ``/metrics`` shows. Observing a request costs two dictionary look-ups and two additions."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "innkeeper_http_requests_total",
            "HTTP requests served.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._latency = Histogram(
            "innkeeper_http_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        # ``labels()`` takes a lock and builds a tuple of strings; the children are kept instead.
        self._request_children: dict[tuple[str, str, int], Counter] = {}
        self._latency_children: dict[str, Histogram] = {}

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request. ``route`` is the template (``/mcp``), never the path that was asked for."""
        key = (route, method if method in _METHODS else "OTHER", status)
        counter = self._request_children.get(key)
        if counter is None:
            counter = self._request_children[key] = self._requests.labels(*key)
        latency = self._latency_children.get(route)
        if latency is None:
            latency = self._latency_children[route] = self._latency.labels(route)
        counter.inc()
        latency.observe(seconds)

    def add_gauges(self, name: str, help: str, label: str, read: Gauges) -> None:
        """Show ``read()`` (label value to number), called at each scrape, as the gauge ``name``."""
        self.registry.register(_Reader(name, help, label, read))

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)


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
