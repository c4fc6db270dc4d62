"""Clients of a web server: clients.py HOST PORT COUNT

Each request has a connection of its own. Prints the body of each answer; ends after COUNT of them, 0 is at SIGTERM.
Sums up on standard error, and ends with 1 if a request failed.
"""

import http.client
import signal
import ssl
import sys
import threading

HOST, PORT, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
THREADS = 4
over = threading.Event()
lock = threading.Lock()
failures = []
served = []


def connected():
    if PORT == 443:
        # The certificate was made for this.
        return http.client.HTTPSConnection(HOST, timeout=20, context=ssl._create_unverified_context())
    return http.client.HTTPConnection(HOST, PORT, timeout=20)


def ask():
    connection = connected()
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        body = answer.read().decode().strip()
        if answer.status != 200:
            raise OSError(f"{answer.status} {body}")
        with lock:
            served.append(body)
            print(body, flush=True)
    except (OSError, http.client.HTTPException) as error:
        failures.append(repr(error))
    finally:
        connection.close()


def come():
    while not over.is_set() and (COUNT == 0 or len(served) + len(failures) < COUNT):
        ask()
        over.wait(0.005)


signal.signal(signal.SIGTERM, lambda *_: over.set())
threads = [threading.Thread(target=come) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    while thread.is_alive():
        thread.join(0.1)
print(f"{len(failures)} failed of {len(served) + len(failures)} requests", *failures[:5], file=sys.stderr)
sys.exit(1 if failures else 0)
