"""Records what a real Prometheus makes of rules: `record_rules.py PROMETHEUS OUT.zst`.

Series are remote-written as time passes while the rules of `query/rules/testdata/as_prometheus.yaml` are evaluated every
second, two seconds behind (`query_offset`), so that every evaluation sees all that is before it. Then everything stored is
read back. `query/rules/tests/as_prometheus.rs` evaluates the same rules at the same instants over the same series.

The file is zstd-compressed JSON lines: a head, then `["in", labels, [[t, value]...]]` for each series written, `["out", labels, [[t, value]...]]` for each series that rules made (stale markers left out), `["seen", ...]` for what a range
query finds of it every second, and `["rule", group, name, query, health, last error]`. Times in ms.
"""

import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
PORT = 29095
BASE = f"http://127.0.0.1:{PORT}/x"
SECONDS = 150
HERE = os.path.dirname(os.path.abspath(__file__))
RULES = os.path.join(HERE, "..", "..", "query", "rules", "testdata", "as_prometheus.yaml")


def series():
    """Labels and a function from the second to the value: None for no sample, "stale" for the marker."""
    out = []
    for i in range(4):
        for code in ("200", "500"):
            step = (i + 1) * (7 if code == "200" else 2)
            # One of them begins anew in the middle, one stops without a marker.
            value = lambda s, step=step, i=i: float(step * (s if not (i == 1 and s > 70) else s - 70))
            gone = lambda s, i=i: i == 2 and s > 90
            out.append(({"__name__": "requests_total", "job": "api", "instance": f"i{i}", "code": code},
                        lambda s, value=value, gone=gone: None if gone(s) else value(s)))
    for i in range(3):
        # Up and down: short dips, a long one, one that flaps.
        def up(s, i=i):
            if i == 0:
                return 0.0 if 30 <= s < 60 else 1.0
            if i == 1:
                return 0.0 if s % 12 < 3 else 1.0
            return 0.0 if 20 <= s < 24 or 80 <= s < 84 else 1.0
        out.append(({"__name__": "up", "job": "api", "instance": f"i{i}"}, up))
    out.append(({"__name__": "up", "job": "gone", "instance": "x"},
                lambda s: "stale" if s == 75 else None if s > 75 else 0.0))
    for i, le in enumerate(("0.1", "0.5", "1", "+Inf")):
        out.append(({"__name__": "latency_bucket", "job": "api", "le": le}, lambda s, i=i: float(s * (i + 1) * (1 + s % 5))))
    out.append(({"__name__": "temperature", "room": "a"}, lambda s: 20 + 15 * math.sin(s / 10)))
    out.append(({"__name__": "temperature", "room": "b"}, lambda s: float("nan") if 40 <= s < 50 else 3.0 * (s % 20)))
    out.append(({"__name__": "temperature", "room": ""}, lambda s: 1.0))
    for i in range(5):
        out.append(({"__name__": "worker_busy", "worker": str(i)}, lambda s, i=i: 1.0 if s // 20 >= i else None))
    return out


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def request(samples):
    body = b""
    for labels, t, v in samples:
        one = b"".join(field(1, field(1, n.encode()) + field(2, x.encode())) for n, x in sorted(labels.items()) if x)
        one += field(2, b"\x09" + struct.pack("<d", v) + b"\x10" + varint(t))
        body += field(1, one)
    packed = varint(len(body))
    for at in range(0, len(body), 60):
        part = body[at:at + 60]
        packed += bytes([(len(part) - 1) << 2]) + part
    return packed


def write(samples):
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    urllib.request.urlopen(urllib.request.Request(f"{BASE}/api/v1/write", request(samples), headers)).read()


def ask(path, **form):
    with urllib.request.urlopen(f"{BASE}{path}?{urllib.parse.urlencode(form)}") as answer:
        return json.load(answer)


def text(v):
    if v == "NaN":
        return "NaN"
    return float(v) if v not in ("+Inf", "-Inf") else v


def main(prometheus, out):
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "prometheus.yml")
        with open(config, "w") as f:
            f.write("global: {evaluation_interval: 1s, external_labels: {region: here}}\n"
                    f"rule_files: ['{os.path.abspath(RULES)}']\n")
        process = subprocess.Popen(
            [prometheus, f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{PORT}", "--web.enable-remote-write-receiver", "--web.external-url=http://p:9090/x",
             "--rules.alert.for-grace-period=10m", "--query.lookback-delta=5m"],
            stderr=subprocess.DEVNULL)
        try:
            run(out)
        finally:
            process.terminate()
            process.wait()


def run(out):
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{BASE}/-/ready").read()
            break
        except OSError:
            time.sleep(0.1)
    version = ask("/api/v1/status/buildinfo")["data"]["version"]
    all_series, written = series(), {}
    begin = (int(time.time()) + 1) * 1000
    for s in range(SECONDS):
        t = begin + s * 1000
        while time.time() * 1000 < t:
            time.sleep(0.005)
        samples = []
        for k, (labels, value) in enumerate(all_series):
            v = value(s)
            if v is None:
                continue
            samples.append((labels, t, STALE if v == "stale" else v))
            written.setdefault(k, []).append([t, "stale" if v == "stale" else "NaN" if v != v else v])
        write(samples)
    time.sleep(2.5)
    end = begin + (SECONDS - 1) * 1000
    lines = [json.dumps({"version": 1, "server": f"Prometheus {version}", "begin": begin, "end": end})]
    for k, points in written.items():
        lines.append(json.dumps(["in", {n: v for n, v in all_series[k][0].items() if v}, points]))
    names = {labels["__name__"] for labels, _ in all_series}
    everything = "{__name__=~'.+'}[%dms]" % (end - begin + 60000)
    found = ask("/api/v1/query", query=everything, time=f"{end / 1000:.3f}")
    assert found["status"] == "success", found
    for one in found["data"]["result"]:
        if one["metric"]["__name__"] not in names:
            points = [[round(float(t) * 1000), text(v)] for t, v in one["values"]]
            lines.append(json.dumps(["out", one["metric"], points]))
    grid = dict(start=f"{(begin - 500) / 1000:.3f}", end=f"{(end - 500) / 1000:.3f}", step="1")
    for one in ask("/api/v1/query_range", query="{__name__=~'.+'}", **grid)["data"]["result"]:
        if one["metric"]["__name__"] not in names:
            lines.append(json.dumps(["seen", one["metric"], [[round(float(t) * 1000), text(v)] for t, v in one["values"]]]))
    rules = ask("/api/v1/rules")["data"]["groups"]
    for group in rules:
        for rule in group["rules"]:
            lines.append(json.dumps(["rule", group["name"], rule["name"], rule["query"], rule["health"], rule.get("lastError", "")]))
    subprocess.run(["zstd", "-19", "-q", "-f", "-o", out], input="\n".join(lines).encode(), check=True)
    print(f"{out}: {len(lines)} lines")


if __name__ == "__main__":
    main(*sys.argv[1:])
