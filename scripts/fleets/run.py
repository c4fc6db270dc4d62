"""Two ringways that share one address, in network namespaces: by VRRP (keepalived), and by BGP with ECMP (bird 2).

Usage: run.py RINGWAY. Prints, for each way of failing, how long new connections failed and what became of open sessions.
Needs root, iproute2, keepalived, bird2, curl. Leaves nothing behind.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

RINGWAY = os.path.abspath(sys.argv[1])
HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGING = os.path.join(HERE, "..", "..", "packaging")
TAG = f"rw{os.getpid()}"
BACKEND = """
import socket, threading
server = socket.create_server(("10.77.0.21", 5432))
def serve(peer):
    try:
        while data := peer.recv(4096):
            peer.sendall(data)
    except OSError:
        pass
    peer.close()
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
processes = []


def run(*command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True).stdout


def ns(name):
    return f"{TAG}-{name}"


def within(name, *command):
    return run("ip", "netns", "exec", ns(name), *command)


def start(name, *command, env=None):
    """Starts a program in a namespace."""
    environment = {**os.environ, **(env or {})}
    process = subprocess.Popen(
        ["ip", "netns", "exec", ns(name), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, env=environment)
    processes.append(process)
    return process


def kill(process, number=signal.SIGKILL):
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
    process.wait()


def build(hosts):
    """Namespaces that are joined by a bridge, each with the address of its name."""
    run("ip", "netns", "add", ns("bridge"))
    within("bridge", "ip", "link", "add", "br0", "type", "bridge")
    within("bridge", "ip", "link", "set", "br0", "up")
    for number, (name, address) in enumerate(hosts.items()):
        run("ip", "netns", "add", ns(name))
        within("bridge", "ip", "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", ns(name))
        within("bridge", "ip", "link", "set", f"p{number}", "master", "br0", "up")
        within(name, "ip", "link", "set", "lo", "up")
        within(name, "ip", "link", "set", "eth0", "up")
        within(name, "ip", "address", "add", address, "dev", "eth0")


def destroy():
    for process in processes:
        kill(process)
    processes.clear()
    for line in run("ip", "netns", "list").splitlines():
        if line.startswith(TAG):
            run("ip", "netns", "delete", line.split()[0], check=False)


class Clients:
    """Clients in a namespace: one connects every 10 ms, and some sessions stay open and say something."""

    CODE = """
import select, socket, sys, time
address = (sys.argv[1], 5432)
kept = []
def connect():
    peer = socket.create_connection(address, timeout=0.5)
    peer.sendall(b"x")
    assert peer.recv(1) == b"x"
    return peer
print("ready", flush=True)
for line in sys.stdin:
    what = line.split()[0]
    if what == "keep":
        kept = [connect() for _ in range(40)]
        print("kept", flush=True)
    elif what == "watch":
        failed, begin, last, first = 0, time.monotonic(), None, None
        until = begin + float(line.split()[1])
        while time.monotonic() < until:
            at = time.monotonic()
            try:
                connect().close()
            except (OSError, AssertionError):
                failed += 1
                first = first or at
                last = time.monotonic()
            time.sleep(0.01)
        alive = 0
        for peer in kept:
            try:
                peer.settimeout(0.5)
                peer.sendall(b"y")
                alive += peer.recv(1) == b"y"
            except OSError:
                pass
        print(failed, 0 if first is None else round((last - first) * 1000), alive, len(kept), flush=True)
"""

    def __init__(self, address):
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", ns("client"), sys.executable, "-c", self.CODE, address], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        processes.append(self.process)
        self.process.stdout.readline()

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def keep(self):
        self.tell("keep")
        self.process.stdout.readline()

    def watch(self, what, action, seconds=8):
        self.tell(f"watch {seconds}")
        time.sleep(1)
        action()
        failed, gap, alive, kept = self.process.stdout.readline().split()
        print(f"| {what} | {failed} | {gap} ms | {alive} of {kept} |", flush=True)


def ringway(name, folder, bind):
    file = os.path.join(folder, f"{name}.toml")
    with open(file, "w", encoding="ascii") as out:
        out.write(
            f'[process]\nworkers = 1\npin_workers = false\n[admin]\nlisten = "127.0.0.1:9900"\n'
            f'[listeners.db]\nbind = "{bind}:5432"\nfreebind = true\npool = "db"\n'
            f'[[pools.db.backends]]\naddress = "10.77.0.21:5432"\n')
    return start(name, RINGWAY, "run", "-c", file)


def wait_for(what, condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"in vain: {what}")
        time.sleep(0.05)


def header(title):
    print(f"\n{title}\n\n| what fails | failed connects | from the first to the last | sessions that went on |")
    print("|---|--:|--:|--:|", flush=True)


def vrrp(folder):
    build({"lb1": "10.77.0.11/24", "lb2": "10.77.0.12/24", "db": "10.77.0.21/24", "client": "10.77.0.31/24"})
    start("db", sys.executable, "-c", BACKEND)
    with open(os.path.join(PACKAGING, "keepalived", "keepalived.conf"), encoding="ascii") as shipped:
        shipped = shipped.read()
    own = {"lb1": ("10.77.0.11", "10.77.0.12", 100), "lb2": ("10.77.0.12", "10.77.0.11", 90)}
    ringways, keepers = {}, {}
    for name, (source, peer, priority) in own.items():
        text = shipped.replace("192.0.2.11", "SOURCE").replace("192.0.2.12", peer).replace("SOURCE", source)
        text = text.replace("192.0.2.10/24", "10.77.0.10/24").replace("priority 100", f"priority {priority}")
        text = text if name == "lb1" else text.replace("state MASTER", "state BACKUP")
        with open(os.path.join(folder, f"{name}.conf"), "w", encoding="ascii") as out:
            out.write(text)
        ringways[name] = ringway(name, folder, "10.77.0.10")
        keepers[name] = start(name, "keepalived", "-n", "-f", os.path.join(folder, f"{name}.conf"),
                              "-p", f"{folder}/{name}.pid", "-r", f"{folder}/{name}.vrrp", "-c", f"{folder}/{name}.chk")
    has = lambda name: "10.77.0.10/" in within(name, "ip", "address", "show", "dev", "eth0")
    wait_for("lb1 has the address", lambda: has("lb1"))
    time.sleep(1)
    clients = Clients("10.77.0.10")
    header("VRRP: a pair with keepalived, `packaging/keepalived/keepalived.conf`")
    clients.keep()
    clients.watch("nothing", lambda: None, 3)
    clients.watch("ringway is killed (-9) on the host that has the address", lambda: kill(ringways["lb1"]))
    ringways["lb1"] = ringway("lb1", folder, "10.77.0.10")
    wait_for("lb1 has the address again", lambda: has("lb1"))
    time.sleep(1)
    clients.keep()
    clients.watch("keepalived is ended (TERM)", lambda: kill(keepers["lb1"], signal.SIGTERM))
    keepers["lb1"] = start("lb1", "keepalived", "-n", "-f", os.path.join(folder, "lb1.conf"),
                           "-p", f"{folder}/lb1.pid", "-r", f"{folder}/lb1.vrrp", "-c", f"{folder}/lb1.chk")
    wait_for("lb1 has the address again", lambda: has("lb1"))
    time.sleep(1)
    clients.keep()
    clients.watch("the host is gone (its link is down)", lambda: within("bridge", "ip", "link", "set", "p0", "down"), 10)


def bgp(folder):
    build({"router": "10.77.0.1/24", "lb1": "10.77.0.11/24", "lb2": "10.77.0.12/24", "db": "10.77.0.21/24",
           "client": "10.77.0.31/24"})
    start("db", sys.executable, "-c", BACKEND)
    within("router", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.fib_multipath_hash_policy=1")
    within("router", "sysctl", "-qw", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0")
    within("client", "ip", "route", "add", "10.88.0.0/24", "via", "10.77.0.1")
    with open(os.path.join(folder, "router.conf"), "w", encoding="ascii") as out:
        out.write("router id 10.77.0.1;\nprotocol device {}\n"
                  "protocol kernel { merge paths on; ipv4 { export all; }; }\n")
        for name, address, number in [("lb1", "10.77.0.11", 65011), ("lb2", "10.77.0.12", 65012)]:
            out.write(f"protocol bgp {name} {{ local 10.77.0.1 as 65000; neighbor {address} as {number}; hold time 3; "
                      "keepalive time 1; ipv4 { import all; export none; }; }\n")
    start("router", "bird", "-f", "-c", f"{folder}/router.conf", "-s", f"{folder}/router.sock", "-P", f"{folder}/r.pid")
    with open(os.path.join(PACKAGING, "bird", "bird.conf"), encoding="ascii") as shipped:
        shipped = shipped.read()
    ringways = {}
    for name, address, number in [("lb1", "10.77.0.11", "65011"), ("lb2", "10.77.0.12", "65012")]:
        text = shipped.replace("10.0.0.11", address).replace("65011", number).replace("10.0.0.1 ", "10.77.0.1 ")
        with open(os.path.join(folder, f"{name}.conf"), "w", encoding="ascii") as out:
            out.write(text.replace("192.0.2.10", "10.88.0.10"))
        within(name, "ip", "address", "add", "10.88.0.10/32", "dev", "lo")
        ringways[name] = ringway(name, folder, "10.88.0.10")
        start(name, "bird", "-f", "-c", f"{folder}/{name}.conf", "-s", f"{folder}/{name}.sock", "-P", f"{folder}/{name}.p")
        start(name, os.path.join(PACKAGING, "bird", "ringway-route"), "service",
              env={"BIRD_SOCKET": f"{folder}/{name}.sock"})
    ways = lambda: within("router", "ip", "route", "show", "10.88.0.10").count("via")
    wait_for("the router knows both ways", lambda: ways() == 2)
    clients = Clients("10.88.0.10")
    header("BGP with ECMP: bird 2, `packaging/bird`")
    clients.keep()
    clients.watch("nothing", lambda: None, 3)
    clients.watch("ringway is killed (-9) on one of two hosts", lambda: kill(ringways["lb1"]))
    clients.keep()
    back = lambda: ringways.update(lb1=ringway("lb1", folder, "10.88.0.10"))
    clients.watch("it comes back", back)
    wait_for("the router knows both ways", lambda: ways() == 2)
    clients.keep()
    clients.watch("one host is gone (its link is down)", lambda: within("bridge", "ip", "link", "set", "p1", "down"), 10)


def main():
    for recipe in (vrrp, bgp):
        folder = tempfile.mkdtemp(prefix="fleets")
        os.chmod(folder, 0o755)
        try:
            recipe(folder)
        finally:
            destroy()
            shutil.rmtree(folder, ignore_errors=True)


main()
