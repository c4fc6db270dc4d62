# shellcheck shell=bash
# Prometheus with the shipped alerts, and the end.

: "${work:?a folder of its own}"

alerts=/usr/share/doc/ringway/prometheus/alerts.yml

# What a query gives, one value a line.
query() {
    python3 -c '
import json, sys, urllib.parse, urllib.request
query = urllib.parse.urlencode({"query": sys.argv[1]})
with urllib.request.urlopen(f"http://127.0.0.1:9090/api/v1/query?{query}", timeout=5) as answer:
    for series in json.load(answer)["data"]["result"]:
        print(series["value"][1], " ".join(f"{name}={value}" for name, value in sorted(series["metric"].items())))
' "$1"
}

is_scraped() { query ringway_build_info | grep -q version=; }

prometheus_and_alerts() {
    begin "Prometheus with the shipped alerts"
    local rules backends
    promtool check rules "$alerts" >"$work/log/promtool" 2>&1 ||
        fail "promtool to take $alerts" "$(cat "$work/log/promtool")"
    mkdir "$work/prometheus"
    cat >"$work/prometheus/prometheus.yml" <<YAML
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [$alerts]
scrape_configs:
  - job_name: ringway
    static_configs: [{targets: ["127.0.0.1:9900"]}]
YAML
    start prometheus prometheus --config.file="$work/prometheus/prometheus.yml" \
        --storage.tsdb.path="$work/prometheus/data" --web.listen-address=127.0.0.1:9090
    until_so 30 "Prometheus to have read ringway" is_scraped
    backends=$(query ringway_backend_up | grep -c '')
    same "backends in ringway_backend_up" 7 "$backends"
    sleep 3
    rules=$(query ALERTS)
    same "alerts of a setup in which all is well" "" "$rules"
    end "$backends backends, $(grep -c 'alert:' "$alerts") alerts loaded, none pending"
}

# Waits for Prometheus to see what is wrong, and nothing else: alerts_are "NAME POOL BACKEND"...
alerts_are() {
    local expected seen
    expected=$(printf '%s\n' "$@" | sort)
    for _ in $(seq 20); do
        seen=$(query ALERTS | awk '{
            delete label
            for (i = 2; i <= NF; i++) { split($i, part, "="); label[part[1]] = part[2] }
            print label["alertname"], label["pool"], label["backend"] }' | sort)
        if [ "$seen" = "$expected" ]; then return 0; fi
        sleep 0.5
    done
    fail "these alerts and no others to be pending: $expected" "$seen"
}

# TERM drains.
the_end() {
    local pid status=0
    begin "TERM"
    pid=$(cat "$work/run/ringway.pid")
    kill "$pid"
    wait "$pid" || status=$?
    same "exit status of ringway" 0 "$status"
    end "ringway ended with 0"
}
