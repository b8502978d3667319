"""Sends what a `prometheus_client` registry holds as one remote write 1.0 request (snappy block, protobuf), and a native
histogram of its own.

Usage: remote_write.py URL. Prints the HTTP status.
"""

import struct
import sys
import time
import urllib.request

import cramjam
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

registry = CollectorRegistry()
jobs = Counter("lab_jobs", "Jobs done.", ["queue"], registry=registry)
jobs.labels("mail").inc(3)
jobs.labels("video").inc(4)
Gauge("lab_temperature_celsius", "Room temperature.", registry=registry).set(21.5)
latency = Histogram("lab_latency_seconds", "Latency.", buckets=[0.1, 1.0], registry=registry)
for seconds in [0.05, 0.5, 5.0]:
    latency.observe(seconds)


def varint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def label(name, value):
    return field(1, field(1, name.encode()) + field(2, value.encode()))


def sample(value, t_ms):
    return field(2, varint(1 << 3 | 1) + struct.pack("<d", value) + varint(2 << 3) + varint(t_ms))


now_ms = int(time.time() * 1000)
series = b""
for family in registry.collect():
    for s in family.samples:
        labels = dict(s.labels, __name__=s.name, job="prometheus_client", instance="lab:8000")
        series += field(1, b"".join(label(n, labels[n]) for n in sorted(labels)) + sample(s.value, now_ms))



def double(number, value):
    return varint(number << 3 | 1) + struct.pack("<d", value)


def number(number, value):
    return varint(number << 3) + varint(value)


def zigzag(n):
    return n << 1 if n >= 0 else (-n << 1) - 1


# Schema 0, one observation in (1, 2] and two in (2, 4].
span = field(11, number(1, zigzag(1)) + number(2, 2))
deltas = field(12, varint(zigzag(1)) + varint(zigzag(1)))
histogram = number(1, 3) + double(3, 7.0) + number(4, zigzag(0)) + span + deltas + number(15, now_ms)
labels = {"__name__": "lab_native_seconds", "job": "prometheus_client"}
series += field(1, b"".join(label(n, labels[n]) for n in sorted(labels)) + field(4, histogram))

body = bytes(cramjam.snappy.compress_raw(series))
headers = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
with urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, headers)) as response:
    print(response.status)
