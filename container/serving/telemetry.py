"""What `GET /metrics` shows, in Prometheus's format."""

import time
from collections.abc import Callable

from flask import Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

LATENCY_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
IMAGE_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


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
            "kennel_model_load_seconds", "How long the model took to load", registry=self.registry
        )
        self._models = Gauge(
            "kennel_models_loaded", "Models that are ready", registry=self.registry
        )

    def watch(
        self,
        running: Callable[[], float],
        load_seconds: Callable[[], float],
        models: Callable[[], float],
    ) -> None:
        """Where to look at what is measured only when it is asked for."""
        self._running.set_function(running)
        self._load_seconds.set_function(load_seconds)
        self._models.set_function(models)

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


def _begin() -> None:
    g.started = time.monotonic()
