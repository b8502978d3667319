// A frontend's spans, sent straight to the OTLP port of another origin: by the SDK's exporter with a header of its own (which
// makes the browser ask first), and by a beacon, as a page does that is being left. `?otlp=` says where to.
import { SpanKind, trace } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { WebTracerProvider } from "@opentelemetry/sdk-trace-web";

const url = new URLSearchParams(location.search).get("otlp") + "/v1/traces";
const exporter = new OTLPTraceExporter({ url, headers: { "x-lab-token": "lab" } });
const provider = new WebTracerProvider({
  resource: resourceFromAttributes({ "service.name": "frontend-browser" }),
  spanProcessors: [new BatchSpanProcessor(exporter)],
});
provider.register();

const tracer = trace.getTracer("page");
tracer.startActiveSpan("documentLoad", (load) => {
  tracer.startSpan("HTTP GET", { kind: SpanKind.CLIENT, attributes: { "http.url": "/api/tasks" } }).end();
  load.end();
});
send();

async function send() {
  await provider.forceFlush();
  const now = BigInt(Date.now()) * 1000000n;
  const span = {
    traceId: "b".repeat(32), spanId: "b".repeat(16), name: "pagehide", kind: 1,
    startTimeUnixNano: String(now), endTimeUnixNano: String(now + 1000000n),
  };
  const resource = { attributes: [{ key: "service.name", value: { stringValue: "frontend-beacon" } }] };
  const body = JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ spans: [span] }] }] });
  navigator.sendBeacon(url, new Blob([body], { type: "application/json" }));
}
