"""How large configurations cost: start, reload, one change, scrape, status, memory. Prints a table in Markdown.

Usage: measure.py RINGWAY [ROUNDS]. Each figure is the median of ROUNDS; times are in milliseconds.
"""

import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

RINGWAY = sys.argv[1]
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 20


def backends(pool, count, first=0):
    for number in range(first, first + count):
        yield (
            f"[[pools.{pool}.backends]]\nname = \"b{number}\"\n"
            f"address = \"127.{10 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}:5432\"\n"
        )


def pool(name, count, first=0, balance="round_robin"):
    lines = f"[pools.{name}]\nbalance = \"{balance}\"\n[pools.{name}.check]\ntype = \"off\"\n"
    return lines + "".join(backends(name, count, first))


def listener(name, address, pool):
    return f"[listeners.{name}]\nbind = \"{address}\"\npool = \"{pool}\"\n"


def pools_of(balance):
    return listener("l", "127.0.0.1:17000", "p") + pool("p", 5000, balance=balance)


def routes():
    text = "".join(
        f"[[listeners.l.routes]]\nsni = [\"s{number}.example\"]\npool = \"p{number % 10}\"\n" for number in range(10000)
    )
    return listener("l", "127.0.0.1:17000", "p0") + text + "".join(pool(f"p{n}", 2, n * 2) for n in range(10))


CONFIGURATIONS = [
    ("100 pools of 100 backends", "p0", lambda: "".join(
        listener(f"l{n}", f"127.0.0.1:{17000 + n}", f"p{n}") + pool(f"p{n}", 100, n * 100) for n in range(100))),
    ("one pool of 5,000, round_robin", "p", lambda: pools_of("round_robin")),
    ("one pool of 5,000, least_conn", "p", lambda: pools_of("least_conn")),
    ("one pool of 5,000, consistent_hash", "p", lambda: pools_of("consistent_hash")),
    ("1,000 listeners", "p", lambda: "".join(
        listener(f"l{n}", f"127.0.0.1:{17000 + n}", "p") for n in range(1000)) + pool("p", 10)),
    ("10,000 routes", "p0", routes),
]


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def ask(path, method, target, body=None):
    connection = Unix(path)
    connection.request(method, target, body)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status < 300, (method, target, answer.status, text[:300])
    return text


def timed(action, rounds=ROUNDS):
    spans = []
    for number in range(rounds):
        begin = time.monotonic()
        action(number)
        spans.append((time.monotonic() - begin) * 1000)
    return statistics.median(spans)


def start(file, path):
    begin = time.monotonic()
    process = subprocess.Popen([RINGWAY, "run", "-c", file], stderr=subprocess.DEVNULL)
    while True:
        try:
            ask(path, "GET", "/ready")
            return process, (time.monotonic() - begin) * 1000
        except (OSError, AssertionError, http.client.HTTPException):
            assert process.poll() is None, "it has ended"
            time.sleep(0.001)


def stop(process):
    process.send_signal(signal.SIGTERM)
    process.wait()


def resident_mib(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def measure(name, changed, text, folder):
    file, path = os.path.join(folder, "ringway.toml"), os.path.join(folder, "admin.sock")
    process_keys = "[process]\nworkers = 2\npin_workers = false\n"
    with open(file, "w", encoding="ascii") as out:
        out.write(f"{process_keys}[admin]\nsocket = \"{path}\"\n{text}")
    starts = []
    for _ in range(5):
        process, took = start(file, path)
        starts.append(took)
        if len(starts) < 5:
            stop(process)
    of_pool = f"/v1/pools/{changed}/backends"
    first = "b0"
    change = timed(lambda n: ask(path, "PATCH", f"{of_pool}/{first}", '{"weight": %d}' % (n % 2 + 2)))
    add = timed(lambda n: ask(path, "POST", of_pool, '{"name": "new%d", "address": "127.99.0.%d:1"}' % (n, n + 1)))
    remove = timed(lambda n: ask(path, "DELETE", f"{of_pool}/new{n}"))
    reload = timed(lambda n: ask(path, "POST", "/v1/reload"), 5)
    scrape = timed(lambda n: ask(path, "GET", "/metrics"), 5)
    status = timed(lambda n: subprocess.run(
        [RINGWAY, "ctl", "status"], env={"RINGWAY_SOCKET": path}, stdout=subprocess.DEVNULL, check=True), 5)
    memory = resident_mib(process)
    stop(process)
    figures = [statistics.median(starts), reload, change, add, remove, scrape, status]
    cells = " | ".join(f"{figure:.1f}" if figure < 100 else f"{figure:.0f}" for figure in figures)
    print(f"| {name} | {cells} | {memory:.0f} |", flush=True)


def main():
    print("| | start | reload | change | add | remove | scrape | `ctl status` | MiB |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, changed, text in CONFIGURATIONS:
        with tempfile.TemporaryDirectory() as folder:
            measure(name, changed, text(), folder)


main()
