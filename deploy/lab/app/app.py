"""A service of the lab: Flask, traced and logged with the OpenTelemetry SDK, counted with prometheus_client.

`SERVICE` is its name. One that has a `BACKEND` asks it for the tasks and has no tasks of its own, so that two of these make
a trace across services. Its histogram carries exemplars: each leads from a bucket to a trace. `LOAD_PER_SECOND` makes it
ask itself, so that there is something to see; some of that is slow, and some fails.

    SERVICE=backend PORT=5001 python app.py
    SERVICE=frontend BACKEND=http://localhost:5001 LOAD_PER_SECOND=4 python app.py
"""

import logging
import os
import random
import threading
import time
import urllib.error
import urllib.request

from flask import Flask, Response, jsonify, request
from opentelemetry import propagate, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.exposition import choose_encoder

try:
    from opentelemetry.sdk._logs import LoggingHandler
except ImportError:
    from opentelemetry.instrumentation.logging.handler import LoggingHandler

SERVICE = os.environ.get("SERVICE", "backend")
BACKEND = os.environ.get("BACKEND", "")
PORT = int(os.environ.get("PORT", "5000"))
LOAD_PER_SECOND = float(os.environ.get("LOAD_PER_SECOND", "0"))

resource = Resource.create({"service.name": SERVICE, "service.version": "1.0.0", "deployment.environment": "lab"})
spans = TracerProvider(resource=resource)
spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(spans)
tracer = trace.get_tracer("lab")
logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
set_logger_provider(logs)
logging.getLogger().addHandler(LoggingHandler(level=logging.INFO, logger_provider=logs))
logging.getLogger().addHandler(logging.StreamHandler())
logging.getLogger().setLevel(logging.INFO)
logging.getLogger("werkzeug").setLevel(logging.WARNING)
log = logging.getLogger(SERVICE)

LABELS = ["method", "endpoint", "status_code"]
requests_total = Counter("http_requests_total", "Requests served.", LABELS)
errors_total = Counter("http_errors_total", "Requests that failed.", LABELS)
duration = Histogram("http_request_duration_seconds", "Time to serve a request.", LABELS)

app = Flask(SERVICE)
FlaskInstrumentor().instrument_app(app, excluded_urls="metrics,health")


@app.before_request
def started():
    request.started = time.perf_counter()


@app.after_request
def finished(response):
    if request.path in ("/metrics", "/health"):
        return response
    labels = [request.method, request.path, str(response.status_code)]
    trace_id = format(trace.get_current_span().get_span_context().trace_id, "032x")
    exemplar = {"trace_id": trace_id}
    requests_total.labels(*labels).inc(exemplar=exemplar)
    duration.labels(*labels).observe(time.perf_counter() - request.started, exemplar=exemplar)
    if response.status_code >= 500:
        errors_total.labels(*labels).inc()
        log.error("Request failed path=%s status=%d", request.path, response.status_code)
    else:
        log.info("Request completed path=%s status=%d", request.path, response.status_code)
    response.headers["X-Trace-Id"] = trace_id
    return response


@app.get("/metrics")
def metrics():
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(REGISTRY), content_type=content_type)


@app.get("/health")
def health():
    return "ok\n"


@app.get("/api/tasks")
def tasks():
    return answer("/api/tasks", lambda: ["write it down", "look at it again"])


@app.get("/api/slow")
def slow():
    return answer("/api/slow", lambda: time.sleep(random.uniform(0.55, 0.7)) or ["late"])


@app.get("/api/fail")
def fail():
    def broken():
        raise RuntimeError("the task queue is on fire")

    return answer("/api/fail", broken)


def answer(path, work):
    """The backend's answer, or that of `work`, and its failure as a 500."""
    try:
        if BACKEND:
            with tracer.start_as_current_span(f"GET {path}", kind=trace.SpanKind.CLIENT) as span:
                span.set_attribute("server.address", BACKEND)
                headers = {}
                propagate.inject(headers)
                with urllib.request.urlopen(urllib.request.Request(BACKEND + path, headers=headers), timeout=10) as got:
                    return Response(got.read(), content_type="application/json")
        with tracer.start_as_current_span("find tasks") as span:
            found = work()
            span.set_attribute("db.result.count", len(found))
            return jsonify(found)
    except (RuntimeError, urllib.error.URLError) as e:
        log.error("error: %s", e)
        return jsonify({"error": str(e)}), 500


def load():
    while True:
        time.sleep(random.expovariate(LOAD_PER_SECOND))
        path = random.choices(["/api/tasks", "/api/slow", "/api/fail"], [85, 10, 5])[0]
        try:
            urllib.request.urlopen(f"http://localhost:{PORT}{path}", timeout=10).close()
        except urllib.error.URLError:
            pass


if __name__ == "__main__":
    if LOAD_PER_SECOND > 0:
        threading.Thread(target=load, daemon=True).start()
    app.run(host=os.environ.get("HOST", "0.0.0.0"), port=PORT, threaded=True)
