"""What `GET /metrics` shows, in Prometheus's format."""

import math
import time
from collections import Counter as Counted
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from container.serving.classifier import Classifier

LATENCY_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
IMAGE_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


Classifiers = Sequence[Classifier]


class Served(Protocol):
    """One model or many."""

    seconds: float
    """How long the last one took to load."""

    def __len__(self) -> int:
        """How many are ready."""
        ...


class Telemetry:
    """The server's own counters: of this process alone, which is all of the server on a CPU."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "kennel_requests", "Requests answered", ["route", "code"], registry=self.registry
        )
        self.latency = Histogram(
            "kennel_request_seconds",
            "From a request's headers to its answer",
            ["route"],
            buckets=LATENCY_SECONDS,
            registry=self.registry,
        )
        self.images = Histogram(
            "kennel_request_images",
            "Images in one answered invocation",
            buckets=IMAGE_COUNTS,
            registry=self.registry,
        )
        self._running = Gauge(
            "kennel_requests_running", "Invocations at work or waiting", registry=self.registry
        )
        self._load_seconds = Gauge(
            "kennel_model_load_seconds",
            "How long the last model took to load",
            registry=self.registry,
        )
        self._models = Gauge(
            "kennel_models_loaded", "Models that are ready", registry=self.registry
        )

    def watch(
        self, running: Callable[[], float], served: Served, classifiers: Callable[[], Classifiers]
    ) -> None:
        """Where to look at what is measured only when somebody asks for it."""
        self._running.set_function(running)
        self._load_seconds.set_function(lambda: served.seconds)
        self._models.set_function(lambda: len(served))
        self.registry.register(_Engines(classifiers))

    def install(self, app: Flask) -> None:
        """Count every request of an application, and add the route that shows the counts."""
        app.before_request(_begin)
        app.after_request(self._end)
        app.add_url_rule("/metrics", view_func=self._show, methods=["GET"])

    def _end(self, response: Response) -> Response:
        # The rule, not the path: clients must not be able to make new series.
        route = request.url_rule.rule if request.url_rule else "other"
        self.requests.labels(route, str(response.status_code)).inc()
        self.latency.labels(route).observe(time.monotonic() - g.started)
        return response

    def _show(self) -> Response:
        """Requests, latencies, images per request, load time: for Prometheus to scrape."""
        return Response(generate_latest(self.registry), content_type=CONTENT_TYPE_LATEST)


class _Engines(Collector):
    """The queues and the batches of all classifiers, added up when they are asked for."""

    def __init__(self, classifiers: Callable[[], Classifiers]) -> None:
        self._classifiers = classifiers

    def collect(self) -> Iterator[Metric]:
        present = self._classifiers()
        shared = {classifier.threads for classifier in present}
        yield GaugeMetricFamily(
            "kennel_images_waiting",
            "Images that wait to be prepared or scored",
            value=sum(each.waiting for each in present) + sum(each.waiting for each in shared),
        )
        yield GaugeMetricFamily(
            "kennel_images_running",
            "Images that are being prepared or scored",
            value=sum(classifier.running for classifier in present),
        )
        batches: Counted[int] = Counted()
        for classifier in present:
            batches.update(dict(classifier.batches))
        family = HistogramMetricFamily("kennel_batch_images", "Images that were scored together")
        family.add_metric([], _buckets(batches), sum(size * n for size, n in batches.items()))
        yield family


def _buckets(batches: Mapping[int, int]) -> list[tuple[str, float]]:
    """Prometheus's cumulative buckets: how many batches of at most so many images."""
    limits = [*((str(most), most) for most in IMAGE_COUNTS), ("+Inf", math.inf)]
    return [
        (name, sum(count for size, count in batches.items() if size <= most))
        for name, most in limits
    ]


def _begin() -> None:
    g.started = time.monotonic()
