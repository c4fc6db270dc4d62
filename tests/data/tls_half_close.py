# A client by OpenSSL: it says close_notify first and reads on, and then it is the other way round.
# Run by tests/it/tls_programs.rs: python3 tls_half_close.py IP PORT CA NAME VERSION
import hashlib
import socket
import ssl
import sys

ip, port, ca, name, version = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)


def hangs_up_first():
    tcp = socket.create_connection((ip, int(port)))
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(came, goes, server_hostname=name)

    def step(action):
        while True:
            try:
                return action()
            except ssl.SSLWantReadError:
                tcp.sendall(goes.read())
                part = tcp.recv(65536)
                came.write(part) if part else came.write_eof()

    step(tls.do_handshake)
    step(lambda: tls.write(b"request"))
    try:
        tls.unwrap()
    except ssl.SSLWantReadError:
        pass
    tcp.sendall(goes.read())
    answer = b""
    try:
        while part := step(lambda: tls.read(65536)):
            answer += part
    except ssl.SSLZeroReturnError:
        # close_notify; a FIN alone is another error.
        return answer


def hears_the_end_first():
    with context.wrap_socket(socket.create_connection((ip, int(port))), server_hostname=name) as tls:
        answer = b""
        while part := tls.recv(65536):
            answer += part
        tls.sendall(b"not yet")
        # It says close_notify; that of the other side is there.
        tls.unwrap().close()
        return answer


for answer in [hangs_up_first(), hears_the_end_first()]:
    print(len(answer), hashlib.md5(answer).hexdigest())
