"""A primary and its replicas of PostgreSQL, MariaDB or Redis, each at its own address, and how to read of them."""

import glob
import os
import pwd
import shutil
import struct
import subprocess
import time


def address(number):
    """Of the server with that number, 0 is the primary."""
    return f"127.1.0.{number + 1}"


def run(*command, user=None, folder="/"):
    ended = subprocess.run(
        command, capture_output=True, text=True, user=user, group=user, cwd=folder, env=environment(folder)
    )
    if ended.returncode:
        raise OSError(f"{command}: {ended.stdout}{ended.stderr}")
    return ended.stdout.strip()


def environment(folder):
    return {**os.environ, "LC_ALL": "C", "TMPDIR": folder if folder != "/" else "/tmp"}


def wait_until(what, is_so, seconds=30):
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if is_so():
                return
        except OSError as error:
            last = error
        time.sleep(0.1)
    raise SystemExit(f"waited in vain: {what}: {last}")


class Servers:
    """What they share. `start`, `write`, `promote` are for all; `open`, `read`, `bye` are a client's."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []

    def spawn(self, *command, user=None):
        with open(f"{self.folder}/servers.log", "ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd="/", user=user, group=user, env=environment(self.folder)
            )
        self.processes.append(process)

    def of_primary(self):
        """The processes of the primary."""
        first = self.processes[0].pid
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(first)], capture_output=True, text=True).stdout
        return [first, *map(int, children.split())]


class PostgreSql(Servers):
    kind, port = "postgresql", 5432

    def start(self, count):
        self.bin = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        self.user = pwd.getpwnam("postgres").pw_uid
        for number in range(count):
            data = f"{self.folder}/data{number}"
            os.mkdir(data, 0o700)
            os.chown(data, self.user, self.user)
            if number == 0:
                run(f"{self.bin}/initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", user=self.user)
            else:
                source = ["-h", address(0), "-U", "postgres", "-D", data]
                run(f"{self.bin}/pg_basebackup", *source, "-R", "-X", "stream", "-c", "fast", user=self.user)
            options = ["-h", address(number), "-k", "", "-c", "fsync=off", "-c", "shared_buffers=16MB"]
            self.spawn(f"{self.bin}/postgres", "-D", data, *options, user=self.user)
            wait_until("PostgreSQL accepts", lambda: self.sql(number, "select 1") == "1")
            if number == 0:
                self.sql(0, "create role ringway login")
        for number in range(1, count):
            streams = "select count(*) from pg_stat_wal_receiver"
            wait_until("it streams", lambda: self.sql(number, streams) == "1")

    def sql(self, number, statement):
        return run(f"{self.bin}/psql", "-h", address(number), "-U", "postgres", "-XAtqc", statement)

    def write(self):
        self.sql(0, "select pg_logical_emit_message(true, $$x$$, $$y$$)")

    def promote(self, count):
        self.sql(1, "select pg_promote()")
        for number in range(2, count):
            self.sql(number, f"alter system set primary_conninfo = 'host={address(1)} user=postgres'")
            self.sql(number, "select pg_reload_conf()")

    @staticmethod
    def ready(client):
        """Reads until the server is ready for a query."""
        answer = b""
        while answer[-6:-1] != b"Z\0\0\0\5":
            more = client.recv(65536)
            if not more or answer[:1] == b"E":
                raise OSError(f"it ended: {answer[:80]!r}")
            answer += more
        if answer[:1] == b"E":
            raise OSError(f"{answer[:80]!r}")

    def open(self, client):
        message = b"\0\3\0\0user\0postgres\0\0"
        client.sendall(struct.pack("!I", len(message) + 4) + message)
        self.ready(client)

    def read(self, client):
        client.sendall(b"Q\0\0\0\x0dselect 1\0")
        self.ready(client)

    def bye(self, client):
        client.sendall(b"X\0\0\0\4")


class Redis(Servers):
    kind, port = "redis", 6379

    def start(self, count):
        for number in range(count):
            options = ["--bind", address(number), "--save", "", "--dir", self.folder, "--protected-mode", "no"]
            source = ["--replicaof", address(0), "6379"] if number else []
            self.spawn("redis-server", *options, "--repl-diskless-sync-delay", "0", *source)
            wait_until("Redis answers", lambda: self.say(number, "PING") == "PONG")
        for number in range(1, count):
            wait_until("it follows", lambda: "master_link_status:up" in self.say(number, "INFO", "replication"))
        self.write()

    def say(self, number, *words):
        return run("redis-cli", "-h", address(number), *words)

    def write(self):
        self.say(0, "SET", "k", "1")

    def promote(self, count):
        self.say(1, "REPLICAOF", "NO", "ONE")
        for number in range(2, count):
            self.say(number, "REPLICAOF", address(1), "6379")

    def open(self, client):
        pass

    def read(self, client):
        client.sendall(b"GET k\r\n")
        answer = client.recv(100)
        if not answer.startswith(b"$1"):
            raise OSError(f"it ended: {answer!r}")

    def bye(self, client):
        pass


class MariaDb(Servers):
    kind, port = "mysql", 3306

    def start(self, count):
        data = f"--datadir={self.folder}/data0"
        how = ["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"]
        run("mariadb-install-db", *how, data, folder=self.folder)
        for number in range(1, count):
            shutil.copytree(f"{self.folder}/data0", f"{self.folder}/data{number}")
        for number in range(count):
            own = [f"--{key}={self.folder}/{key}{number}" for key in ("socket", "pid-file")]
            own += [f"--datadir={self.folder}/data{number}", f"--bind-address={address(number)}"]
            own += [f"--server-id={number + 1}", f"--read-only={int(number > 0)}", "--log-bin=log"]
            small = ["--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve"]
            self.spawn("mariadbd", "--no-defaults", "--user=root", "--log-slave-updates", *own, *small)
            wait_until("MariaDB accepts", lambda: self.sql(number, "select 1") == "1")
            accounts = "create user ringway; create user app; create user follower"
            grants = "grant slave monitor on *.* to ringway; grant replication slave on *.* to follower"
            self.sql(number, f"set sql_log_bin=0; {accounts}; {grants}")
        for number in range(1, count):
            self.follow(number, 0)
            status = "show slave status\\G"
            wait_until("it follows", lambda: self.sql(number, status).split("\n").count("Yes") == 2)

    def sql(self, number, statement):
        options = ["--no-defaults", "-uroot", "-NB", "-S", f"{self.folder}/socket{number}"]
        return run("mariadb", *options, "-e", statement)

    def follow(self, number, primary):
        source = f"master_host='{address(primary)}', master_user='follower', master_use_gtid=slave_pos"
        self.sql(number, f"stop slave; change master to {source}; start slave")

    def write(self):
        self.sql(0, "create or replace table mysql.x (a int)")

    def promote(self, count):
        self.sql(1, "stop slave; reset slave all; set global read_only=0")
        for number in range(2, count):
            self.follow(number, 1)

    @staticmethod
    def packet(client):
        got = b""
        while len(got) < 4 or len(got) < 4 + int.from_bytes(got[:3], "little"):
            more = client.recv(4096)
            if not more:
                raise OSError("it ended")
            got += more
        if got[4] == 0xFF:
            raise OSError(f"{got[:80]!r}")
        return got

    def open(self, client):
        self.packet(client)
        # Protocol 4.1, a plugin for authentication, no password.
        message = struct.pack("<IIB23x", 0x0008A200, 1 << 24, 33) + b"app\0\0mysql_native_password\0"
        client.sendall(len(message).to_bytes(3, "little") + b"\1" + message)
        if self.packet(client)[4] == 0xFE:
            client.sendall(b"\0\0\0\3")
            self.packet(client)

    def read(self, client):
        query = b"\3select 1"
        client.sendall(len(query).to_bytes(3, "little") + b"\0" + query)
        answer = b""
        # One end after the columns, one after the rows.
        while answer.count(b"\xfe\0\0") < 2:
            more = client.recv(4096)
            if not more:
                raise OSError("it ended")
            answer += more
            if answer[4:5] == b"\xff":
                raise OSError(f"{answer[:80]!r}")

    def bye(self, client):
        client.sendall(b"\1\0\0\0\1")


ALL = {one.kind: one for one in (PostgreSql, MariaDb, Redis)}
