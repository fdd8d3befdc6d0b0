"""A stand-in for a process of a pool: entries in a folder, loaded when asked for, told of in a report.

``GET /use/NAME`` is a request for a model; one whose artifact begins with ``bad`` cannot be loaded.
"""

import http.server
import json
import os
import pathlib
import socketserver
import sys

FOLDER, SOCKET = pathlib.Path(sys.argv[1]), sys.argv[2]
LOADED: dict[str, str] = {}
FAILING: dict[str, str] = {}
SEEN: dict[str, dict] = {}
HITS: dict[str, int] = {}


def load(name: str) -> bool:
    entry = SEEN[name] = json.loads((FOLDER / f"{name}.json").read_bytes())
    if pathlib.Path(entry["path"]).read_bytes().startswith(b"bad"):
        FAILING[name] = f"{name} is bad"
        return False
    FAILING.pop(name, None)
    LOADED[name] = entry["digest"]
    return True


def report() -> dict:
    models = [
        {
            "name": name,
            "digest": SEEN[name]["digest"],
            "tags": SEEN[name]["tags"],
            "loaded": name in LOADED,
            "loading": False,
            "bytes": 100 if name in LOADED else 0,
            "hits": HITS.get(name, 0),
            "misses": 0,
            "failing": FAILING.get(name, ""),
            "quarantined": "",
        }
        for name in SEEN
    ]
    return {"budget": 1, "measured": 1, "models": models}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        return

    def answer(self, body: object, status: int = 200) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        if self.path == "/mlship/v1/pool":
            self.answer(report())
        elif self.path.startswith("/use/"):
            name = self.path.removeprefix("/use/")
            HITS[name] = HITS.get(name, 0) + 1
            self.answer({"pid": os.getpid()}, 200 if name in LOADED or load(name) else 503)
        else:
            self.answer({"ready": True})

    def do_POST(self) -> None:
        *_, name, verb = self.path.split("/")
        if verb == "load":
            self.answer({}, 200 if load(name) else 503)
            return
        LOADED.pop(name, None)
        FAILING.pop(name, None)
        self.answer({}, 200 if SEEN.pop(name, None) else 404)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


Server(SOCKET, Handler).serve_forever()
