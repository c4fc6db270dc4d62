"""Reads while their primary dies: measure.py DATABASE SERVERS FAULT LAG_MAX POOL, as scripts/reads.sh explains."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import servers

RINGWAY = os.path.abspath(os.environ.get("RINGWAY", "target/release/ringway"))
READ = ("127.2.0.1", 5433)
WITHOUT_PRIMARY_S, AFTER_PROMOTION_S = 15, 12
POOLS = {
    "plain": 'balance = "least_conn"',
    "spread": 'balance = "least_conn"\nwhen_all_down = "use_all"',
    "two": 'balance = "failover"\nwhen_all_down = "use_all"\nconnect_timeout = "1s"',
}


def configuration(database, count, lag_max, pool, folder):
    def check(role, more=""):
        user = "" if database.kind == "redis" else 'user = "ringway", '
        return f'check = {{ type = "{database.kind}", {user}role = "{role}"{more} }}'

    one = '{{ name = "s{0}", address = "{1}:{2}" }}'
    all_of_them = ", ".join(one.format(n + 1, servers.address(n), database.port) for n in range(count))
    lag = "" if lag_max == "-" else f', lag_max = "{lag_max}"'
    if pool == "recommended":
        pool = "two" if count == 2 else "plain"
    return f"""[admin]
socket = "{folder}/admin.sock"
[listeners.read]
bind = "{READ[0]}:{READ[1]}"
pool = "replicas"
[pools.primary]
{check("primary")}
backends = [{all_of_them}]
[pools.replicas]
{POOLS[pool]}
{check("replica", lag)}
backends = [{all_of_them}]
"""


class Load:
    """Clients that come, read and go; and clients that stay."""

    def __init__(self, database):
        self.database, self.is_over, self.reads = database, False, []

    def begin(self):
        for client in [self.comes] * 4 + [self.stays] * 4:
            threading.Thread(target=client, daemon=True).start()

    def connect(self):
        client = socket.create_connection(READ, 20)
        client.settimeout(20)
        self.database.open(client)
        return client

    def note(self, kind, started, error=None):
        self.reads.append((kind, started, time.monotonic(), error))

    def comes(self):
        while not self.is_over:
            started = time.monotonic()
            try:
                client = self.connect()
                self.database.read(client)
                self.database.bye(client)
                client.close()
                self.note("new clients", started)
            except OSError as error:
                self.note("new clients", started, error)
            time.sleep(0.02)

    def stays(self):
        client = None
        while not self.is_over:
            started = time.monotonic()
            try:
                client = client or self.connect()
                self.database.read(client)
                self.note("those that stay", started)
            except OSError as error:
                self.note("those that stay", started, error)
                client = None
            time.sleep(0.05)

    def report(self, what, since, until):
        for kind in ("new clients", "those that stay"):
            reads = [read for read in self.reads if read[0] == kind and since <= read[2] < until]
            failed = [read[3] for read in reads if read[3]]
            slowest = max((ended - started for _, started, ended, _ in reads), default=0)
            line = f"  {what}, {kind}: {len(reads) - len(failed)} reads, {len(failed)} failed, slowest {slowest:.2f} s"
            print(line + (f" ({failed[0]})" if failed else ""))


def harm(fault, database):
    if fault == "cut":
        hook = "add table ip t; add chain ip t o { type filter hook output priority 0; }"
        one, other = (f"add rule ip t o ip {way} {servers.address(0)} drop" for way in ("daddr", "saddr"))
        servers.run("nft", f"{hook}; {one}; {other}")
        return
    for process in database.of_primary():
        os.kill(process, {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[fault])


def main():
    name, count, fault, lag_max, pool = sys.argv[1:]
    servers.run("ip", "link", "set", "lo", "up")
    with tempfile.TemporaryDirectory(prefix="ringway-reads.", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        database = servers.ALL[name](folder)
        measure(database, int(count), fault, lag_max, pool, folder)


def measure(database, count, fault, lag_max, pool, folder):
    database.start(count)
    with open(f"{folder}/ringway.toml", "w") as file:
        file.write(configuration(database, count, lag_max, pool, folder))
    with open(f"{folder}/ringway.log", "w") as log:
        subprocess.Popen([RINGWAY, "run", "-c", f"{folder}/ringway.toml"], stdout=log, stderr=log)

    def are_up():
        states = servers.run(RINGWAY, "ctl", "--socket", f"{folder}/admin.sock", "backends", "replicas")
        return states.count(" up ") == count - 1

    servers.wait_until("the replicas are up", are_up)
    load = Load(database)
    load.begin()
    for _ in range(6):
        database.write()
        time.sleep(0.5)
    died = time.monotonic()
    harm(fault, database)
    time.sleep(WITHOUT_PRIMARY_S)
    promoted = time.monotonic()
    database.promote(count)
    time.sleep(AFTER_PROMOTION_S)
    load.is_over = True
    print(*sys.argv[1:])
    load.report("without a primary", died, promoted)
    load.report("after the promotion", promoted, time.monotonic())
    # Everything else ends with this process, the first of its namespace.


main()
