"""A stand-in for a model server: answers HTTP on a Unix socket (or PORT), and misbehaves as its flags say."""

import argparse
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys


def listen(address: str) -> socket.socket:
    if address.startswith("port:"):
        server = socket.create_server(("127.0.0.1", int(address.removeprefix("port:"))))
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(address)
    server.listen(64)
    return server


def answer(flags: argparse.Namespace, asked: bytes) -> bytes:
    if flags.report_file and asked.startswith(b"GET /report "):
        body = pathlib.Path(flags.report_file).read_bytes()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    if flags.ready_file and not pathlib.Path(flags.ready_file).exists():
        body = b'{"error": "the model is being loaded"}'
        return b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    body = str(os.getpid()).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--ready-file", default="")
    parser.add_argument("--report-file", default="")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--grandchild", default="", help="start one that ignores SIGTERM and write its pid here")
    parser.add_argument("--say", default="")
    parser.add_argument("--exit", type=int, default=None)
    flags = parser.parse_args()
    if flags.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if flags.grandchild:
        code = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-S", "-c", code])
        partial = pathlib.Path(flags.grandchild + ".partial")
        partial.write_text(str(child.pid))
        partial.rename(flags.grandchild)
    if flags.say:
        print(flags.say, flush=True)
    if flags.exit is not None:
        sys.exit(flags.exit)
    server = listen(flags.address)
    while True:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            if asked := connection.recv(4096):
                connection.sendall(answer(flags, asked))


main()
