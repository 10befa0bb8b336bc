#!/bin/sh
# Runs every bench in its own process, so that none warms a cache for another.
# Usage: tools/bench.sh BIN, the bin folder of the virtual environment.

set -eu
cd "$(dirname "$0")/.."
bin=$1

rm -f .bench/results/bench_*.json # a bench that is gone has nothing to report
for bench in benches/bench_*.py; do
    echo "--- $bench"
    "$bin/python" "$bench"
done
