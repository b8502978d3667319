#!/usr/bin/env bash
# What a lab's CI pipeline asks after its application ran: curl and jq against the three APIs, no client library.
# Usage: lab_check.sh PROMETHEUS LOKI TEMPO SERVICE TRACE_ID ERROR_TRACE_ID   (host:port each)
set -euo pipefail
prometheus=http://$1 loki=http://$2 tempo=http://$3 service=$4 trace=$5 error_trace=$6
failures=0

expect() { # what, wanted (a test operator and value), got
    if [ "$3" "${2%% *}" "${2#* }" ] 2>/dev/null; then
        echo "ok    $1: $3"
    else
        echo "FAIL  $1: got '$3', wanted $2"
        failures=$((failures + 1))
    fi
}
get() { curl -sfg --max-time 10 "$@" || echo '{}'; }

expect "prometheus is healthy" "= 200" "$(curl -so /dev/null -w '%{http_code}' "$prometheus/-/healthy")"
expect "loki is ready" "= 200" "$(curl -so /dev/null -w '%{http_code}' "$loki/ready")"
expect "tempo is ready" "= 200" "$(curl -so /dev/null -w '%{http_code}' "$tempo/ready")"
expect "tempo echoes" "= echo" "$(curl -sf "$tempo/api/echo")"

# Traces
expect "traces by tag" "-ge 5" "$(get "$tempo/api/search?tags=service.name=$service" | jq '.traces | length')"
expect "traces by TraceQL" "-ge 5" \
    "$(get -G "$tempo/api/search" --data-urlencode "q={resource.service.name=\"$service\"}" | jq '.traces | length')"
expect "slow traces" "-ge 0" \
    "$(get -G "$tempo/api/search" --data-urlencode 'q={duration > 500ms}' | jq '.traces | length')"
expect "a failed request's trace" "-ge 1" \
    "$(get -G "$tempo/api/search" --data-urlencode "q={resource.service.name=\"$service\" && status=error}" \
        | jq "[.traces[] | select(.traceID == \"$error_trace\")] | length")"
spans='[.batches[].scopeSpans[].spans[]]'
expect "the trace by its id" "-ge 3" "$(get "$tempo/api/traces/$trace" | jq "$spans | length")"
expect "its SQL span" "-ge 1" "$(get "$tempo/api/traces/$trace" | jq "$spans | map(select(.name | test(\"SELECT\"))) | length")"
expect "the same through v2" "-ge 3" \
    "$(get "$tempo/api/v2/traces/$trace" | jq '[.trace.resourceSpans[].scopeSpans[].spans[]] | length')"
expect "service names" "= true" \
    "$(get "$tempo/api/search/tag/service.name/values" | jq ".tagValues | contains([\"$service\"])")"

# Logs
now=$(date +%s)
range=(--data-urlencode "start=$((now - 3600))000000000" --data-urlencode "end=$((now + 60))000000000" --data-urlencode limit=100)
logs() { get -G "$loki/loki/api/v1/query_range" "${range[@]}" --data-urlencode "query=$1"; }
lines='[.data.result[].values | length] | add // 0'
expect "labels" "= true" "$(get "$loki/loki/api/v1/labels" | jq '.data | contains(["service_name"])')"
expect "lines of the service" "-ge 5" "$(logs "{service_name=\"$service\"}" | jq "$lines")"
expect "lines of the first result stream" "-ge 5" \
    "$(logs "{service_name=\"$service\"}" | jq '.data.result[0].values | length')"
expect "lines with text" "-ge 5" "$(logs "{service_name=\"$service\"} |= \"Request completed\"" | jq "$lines")"
expect "error lines" "-ge 1" "$(logs "{service_name=\"$service\"} |= \"error\"" | jq "$lines")"
expect "lines of the trace" "-ge 1" "$(logs "{service_name=\"$service\"} | trace_id=\"$trace\"" | jq "$lines")"
expect "error lines by level" "-ge 1" "$(logs "{service_name=\"$service\"} | detected_level=\"error\"" | jq "$lines")"
counted="sum(count_over_time({service_name=\"$service\"} |= \"Request completed\" [5m]))"
expect "lines counted" "-ge 5" \
    "$(get -G "$loki/loki/api/v1/query" --data-urlencode "query=$counted" | jq -r '.data.result[0].value[1]')"

# Metrics
value() { get -G "$prometheus/api/v1/query" --data-urlencode "query=$1" | jq -r '.data.result[0].value[1]'; }
expect "requests counted" "= 13" "$(value "sum(http_requests_total{job=\"$service\"})")"
expect "query unescaped in the URL" "-ge 1" \
    "$(get "$prometheus/api/v1/query?query=http_requests_total{job=\"$service\"}" | jq '.data.result | length')"
p95="histogram_quantile(0.95,sum(http_request_duration_seconds_bucket{job=\"$service\"})by(le))"
expect "p95 is a number" "= true" "$(get -G "$prometheus/api/v1/query" --data-urlencode "query=$p95" \
    | jq '.data.result[0].value[1] | tonumber | . > 0')"
expect "one job" "= 1" "$(value "count(count by (job) (http_requests_total{job=\"$service\"}))")"
expect "target_info" "= 1" "$(value "target_info{job=\"$service\",service_version=\"1.0.0\"}")"
expect "its own metrics" "= 1" "$(value 'up{job="trilobite"}')"
expect "error ratio" "= true" "$(value "sum(http_requests_total{job=\"$service\",status_code=~\"5..\"}) / sum(http_requests_total{job=\"$service\"}) > 0.01" \
    | jq '. > 0.07 and . < 0.08')"
exemplars=$(get -G "$prometheus/api/v1/query_exemplars" --data-urlencode 'query=http_request_duration_seconds_bucket' \
    --data-urlencode "start=$((now - 3600))" --data-urlencode "end=$((now + 60))")
expect "exemplars lead to traces" "= true" "$(jq '[.data[].exemplars[].labels.trace_id] | all(test("^[0-9a-f]{32}$")) and length > 0' <<<"$exemplars")"

[ "$failures" = 0 ] || { echo "$failures checks failed"; exit 1; }
