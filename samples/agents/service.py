"""Serves one agent: questions come as JSON from its sidecar, answers go back as JSON."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

QUESTION_MAX_BYTES = 1024 * 1024


def serve(name, listen, answer):
    """Answers for as long as it runs. `answer` is given what was asked, and returns a text or the whole answer."""

    class Agent(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            length = int(self.headers.get("content-length", 0))
            try:
                if length > QUESTION_MAX_BYTES:
                    raise ValueError("too long")
                said = answer(json.loads(self.rfile.read(length)))
                body = json.dumps({"text": said} if isinstance(said, str) else said).encode()
                self.send_response(200)
            except (KeyError, TypeError, ValueError) as error:
                body = json.dumps({"error": str(error)}).encode()
                self.send_response(400)
                self.close_connection = True
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """What people ask does not belong into a log."""

    host, port = listen.rsplit(":", 1)
    server = ThreadingHTTPServer((host, int(port)), Agent)
    print(f"{name} listens on http://{host}:{server.server_port}/", flush=True)
    server.serve_forever()
