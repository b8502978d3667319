"""A small Flask + SQLAlchemy service as a lab has it, instrumented with the OpenTelemetry Python SDK.

Serves requests to itself, exports traces, logs and metrics over OTLP (`OTEL_EXPORTER_OTLP_PROTOCOL` = `grpc` or
`http/protobuf`, `OTEL_EXPORTER_OTLP_ENDPOINT`), flushes, and prints one JSON line: what a check should find.
"""

import json
import logging
import os
import sys

from flask import Flask, jsonify, request
from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from sqlalchemy import Column, Integer, String, create_engine, select
from sqlalchemy.orm import Session, declarative_base

if os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

try:
    from opentelemetry.sdk._logs import LoggingHandler
except ImportError:
    from opentelemetry.instrumentation.logging.handler import LoggingHandler

SERVICE = sys.argv[1] if len(sys.argv) > 1 else "flask-backend"
REQUESTS = 12

resource = Resource.create(
    {
        "service.name": SERVICE,
        "service.version": "1.0.0",
        "service.instance.id": "backend-1",
        "deployment.environment": "lab",
    }
)
tracer_provider = TracerProvider(resource=resource)
tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(tracer_provider)
meter_provider = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(), 60_000)], resource=resource)
metrics.set_meter_provider(meter_provider)
logger_provider = LoggerProvider(resource=resource)
logger_provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
set_logger_provider(logger_provider)
logging.getLogger().addHandler(LoggingHandler(level=logging.INFO, logger_provider=logger_provider))
logging.getLogger().setLevel(logging.INFO)
log = logging.getLogger("lab")

Base = declarative_base()


class Task(Base):
    __tablename__ = "tasks"
    id = Column(Integer, primary_key=True)
    title = Column(String)


engine = create_engine("sqlite://", poolclass=__import__("sqlalchemy.pool", fromlist=["StaticPool"]).StaticPool)
SQLAlchemyInstrumentor().instrument(engine=engine)
Base.metadata.create_all(engine)

app = Flask(__name__)
FlaskInstrumentor().instrument_app(app)
tracer = trace.get_tracer("lab")
meter = metrics.get_meter("lab")
requests_total = meter.create_counter("http_requests_total", unit="1", description="Requests served.")
duration = meter.create_histogram("http_request_duration_seconds", unit="s", description="Time to serve a request.")
trace_ids = []


@app.before_request
def started():
    import time

    request.started = time.perf_counter()


@app.after_request
def finished(response):
    import time

    labels = {"method": request.method, "endpoint": request.path, "status_code": response.status_code}
    requests_total.add(1, labels)
    duration.record(time.perf_counter() - request.started, labels)
    log.info("Request completed path=%s status=%d", request.path, response.status_code)
    trace_ids.append(format(trace.get_current_span().get_span_context().trace_id, "032x"))
    return response


@app.get("/api/tasks")
def list_tasks():
    with tracer.start_as_current_span("get_all_tasks") as span, Session(engine) as session:
        tasks = session.execute(select(Task)).scalars().all()
        span.set_attribute("db.result.count", len(tasks))
        return jsonify([t.title for t in tasks])


@app.post("/api/tasks")
def create_task():
    with tracer.start_as_current_span("create_task"), Session(engine) as session:
        session.add(Task(title="write it down"))
        session.commit()
        return jsonify({}), 201


@app.get("/api/fail")
def fail():
    log.error("simulated error: the task queue is on fire")
    return jsonify({"error": "simulated"}), 500


client = app.test_client()
for i in range(REQUESTS):
    client.post("/api/tasks") if i % 3 == 0 else client.get("/api/tasks")
client.get("/api/fail")

ok = tracer_provider.force_flush() and logger_provider.force_flush() and meter_provider.force_flush()
meter_provider.shutdown()
logger_provider.shutdown()
tracer_provider.shutdown()
print(json.dumps({"flushed": bool(ok), "requests": REQUESTS + 1, "trace_id": trace_ids[1], "error_trace_id": trace_ids[-1]}))
