"""The numbers of one process, under names that dashboards and alerts hold on to."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds; a page should be under 0.1
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry with everything the kit counts. Ages and lags are in seconds, backlogs in rows or records."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.started = Gauge("kursnett_started_seconds", "When this process started, Unix time.", registry=registry)
        self.started.set(time.time())
        self.outbox_age_s = Gauge(
            "kursnett_outbox_age_seconds", "Age of the oldest event that is not yet on its topic.", registry=registry
        )
        self.outbox_backlog = Gauge(
            "kursnett_outbox_backlog", "Events that are not yet on their topic.", registry=registry
        )
        self.relayed = Counter(
            "kursnett_relay_published", "Events the broker has taken from this relay.", registry=registry
        )
        self.relay_errors = Counter(
            "kursnett_relay_errors", "Times the relay had to send something again.", registry=registry
        )
        self.relay_stuck = Gauge(
            "kursnett_relay_stuck",
            "Things whose next event the broker refuses; what comes after it waits, all else is published.",
            registry=registry,
        )
        self.consumer_lag = Gauge(
            "kursnett_consumer_lag", "Records that a consumer has not yet taken.", ["consumer"], registry=registry
        )
        self.consumer_events = Counter(
            "kursnett_consumer_events",
            "Records a consumer is done with, by outcome (done, repeat, skipped, parked, held).",
            ["consumer", "outcome"],
            registry=registry,
        )
        self.consumer_retries = Counter(
            "kursnett_consumer_retries", "Times a record was tried again.", ["consumer"], registry=registry
        )
        self.parked = Gauge(
            "kursnett_parked", "Records that wait for an operator, the held ones too.", ["consumer"], registry=registry
        )
        self.worker_restarts = Counter(
            "kursnett_worker_restarts", "Times a worker raised and was started again.", ["worker"], registry=registry
        )
        self.http_seconds = Histogram(
            "kursnett_http_request_seconds",
            "How long requests took, by route template.",
            ["method", "route", "status"],
            buckets=HTTP_BUCKETS,
            registry=registry,
        )

    def text(self) -> bytes:
        """Everything counted, in Prometheus' text form."""
        return generate_latest(self.registry)
