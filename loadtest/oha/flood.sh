#!/usr/bin/env bash
# The cookbook's runs, one after the other, against a gateway of their own: flood.sh [PROFILE]
# Needs oha 1.x (cargo install oha), and `cargo build --profile PROFILE -p floodgate -p floodgate-loadtest`.
set -eu
cd "$(dirname "$0")/../.."
bin=target/${1:-dist}
command -v oha >/dev/null || { echo "oha is not installed: cargo install oha" >&2; exit 4; }
[ -x "$bin/floodgate" ] || { echo "$bin/floodgate is not there: cargo build --profile ${1:-dist}" >&2; exit 4; }

dir=$(mktemp -d)
"$bin/floodgate" serve --auth insecure --data-dir "$dir" --listen 127.0.0.1:18080 --ops-listen 127.0.0.1:19090 \
    2> "$dir/log" &
gateway=$!
trap 'kill "$gateway" 2>/dev/null; wait "$gateway" 2>/dev/null || true; rm -rf "$dir"' EXIT
sale() { "$bin/floodgate" sale --ops-url http://127.0.0.1:19090 --data-dir "$dir" "$@"; }
until curl -sf http://127.0.0.1:19090/readyz >/dev/null; do
    kill -0 "$gateway" || { cat "$dir/log" >&2; exit 1; }
    sleep 0.1
done
sale create loadtest/oha/sale.json > /dev/null
sale open oha > /dev/null
"$bin/floodgate-loadtest" bodies --users 50000 --item sku-1 > "$dir/bodies.ndjson"

url=http://127.0.0.1:18080/v1/sales/oha/reservations
post=(-m POST -T application/json -Z "$dir/bodies.ndjson" --no-tui --output-format json)
figures='{rate: .summary.requestsPerSec, p50: .latencyPercentiles.p50, p99: .latencyPercentiles.p99,
    answers: .statusCodeDistribution, errors: .errorDistribution}'
run() { echo "$1"; shift; oha "$@" "$url" | { command -v jq >/dev/null && jq -c "$figures" || cat; }; }

run 'as fast as it goes, 128 connections' "${post[@]}" -n 100000 -c 128
run 'open loop: 2,000 a second, late starts charged' "${post[@]}" -z 5s -c 128 -q 2000 --latency-correction
run 'a connection for each request' "${post[@]}" -n 10000 -c 64 --disable-keepalive

"$bin/floodgate" audit --data-dir "$dir"
