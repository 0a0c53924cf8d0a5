"""The part of W&B's server that a run needs, on a loopback port, keeping what it is sent. Or a server that fails."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

API_KEY = "0123456789" * 4


class WandbServer:
    """Use with `with`; `url` is its address.

    Args:
        fault: "refuses": 401 to everything; "hangs": accepts and never answers; "loses uploads": answers everything but
            the uploads of a run's records.
    """

    def __init__(self, fault: str | None = None):
        self.fault = fault
        self.runs: dict[str, dict[str, list[str]]] = {}  # by id: the lines of each file
        self.upserts: list[dict] = []  # what was said of the runs
        self.files: dict[str, bytes] = {}  # uploaded whole, by their name in a run
        self.views: list[dict] = []  # workspaces
        self.closing = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_state": self}))
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> WandbServer:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()

    def steps(self, run_id: str) -> list[int]:
        return [json.loads(line)["_step"] for line in self.runs[run_id]["wandb-history.jsonl"]]

    def summary(self, run_id: str) -> dict:
        return json.loads(self.runs[run_id]["wandb-summary.json"][-1])

    def stream(self, run_id: str, files: dict) -> None:
        for name, chunk in files.items():
            lines = self.runs[run_id].setdefault(name, [])
            lines[chunk["offset"] :] = chunk["content"]

    def answer(self, operation: str, variables: dict) -> dict:
        """To a GraphQL query."""
        project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
        if operation == "RunResumeStatus":
            return {"model": project | {"bucket": self._bucket(variables["name"])}}
        if operation == "UpsertBucket":
            self.runs.setdefault(variables["name"], {})
            self.upserts.append(variables)
            return {"upsertBucket": {"bucket": self._bucket(variables["name"]) | {"project": project}, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if operation == "Viewer":  # whose key it is
            return {"viewer": {"id": "u", "username": "e", "entity": "e", "flags": "{}", "teams": {"edges": []}}}
        if operation == "UpsertView2":
            self.views.append(variables)
            return {"upsertView": {"view": {"id": "v", "name": variables["name"]}, "inserted": True}}
        return {}

    def _bucket(self, run_id: str) -> dict | None:
        if run_id not in self.runs:
            return None
        history = self.runs[run_id].get("wandb-history.jsonl", [])
        return {
            "id": "r", "name": run_id, "displayName": run_id, "description": None, "notes": None, "sweepName": None,
            "config": "{}", "summaryMetrics": "{}", "tags": [], "wandbConfig": '{"t": 1}', "eventsTail": "[]",
            "logLineCount": 0, "eventsLineCount": 0, "historyLineCount": len(history),
            "historyTail": json.dumps(history[-1:]),
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    server_state: WandbServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        state = self.server_state
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        uploads = self.path.endswith("/file_stream")
        if state.fault == "hangs" or (state.fault == "loses uploads" and uploads):
            state.closing.wait()
        elif state.fault == "refuses":
            self._reply({}, code=401)
        elif uploads:
            state.stream(self.path.split("/")[-2], json.loads(self._plain(body)).get("files") or {})
            self._reply({})
        elif self.path == "/graphql":
            query = json.loads(self._plain(body))
            operation = query["query"].replace("{", " ").split("(")[0].split()[1]
            self._reply({"data": state.answer(operation, query.get("variables") or {})})
        else:
            if self.path.startswith("/upload/"):
                state.files[self.path.removeprefix("/upload/")] = body
            self._reply({})

    do_GET = do_PUT = do_POST

    def _plain(self, body: bytes) -> bytes:
        return gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body

    def _reply(self, value: dict, code: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass
