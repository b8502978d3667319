"""Sends three rounds of changes with the OpenTelemetry Python SDK: delta temporality, exponential and explicit histograms.

Usage: delta_histograms.py. The endpoint is `OTEL_EXPORTER_OTLP_ENDPOINT`. Prints one JSON line: whether all was flushed.
"""

import json
import time

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource

exporter = OTLPMetricExporter(
    preferred_temporality={Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA},
    preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()},
)
reader = PeriodicExportingMetricReader(exporter, 3_600_000)
explicit = View(instrument_name="lab.explicit", aggregation=ExplicitBucketHistogramAggregation([1.0, 2.0]))
resource = Resource.create({"service.name": "delta", "service.instance.id": "one"})
provider = MeterProvider([reader], resource=resource, views=[explicit])
meter = provider.get_meter("lab")
jobs = meter.create_counter("lab.jobs", unit="1")
native = meter.create_histogram("lab.native", unit="s")
buckets = meter.create_histogram("lab.explicit", unit="s")

ok = True
for round in [1, 2, 3]:
    jobs.add(round)
    for histogram in [native, buckets]:
        histogram.record(1.5)
        histogram.record(3.0)
    ok = provider.force_flush() and ok
    time.sleep(0.01)
print(json.dumps({"flushed": ok}))
provider.shutdown()
