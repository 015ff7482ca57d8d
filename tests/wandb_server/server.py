"""W&B server on the loopback interface, for the real SDK.

It carries wandb 0.31 (Python client and wandb-core) through runs, scalars, files, artifacts,
Tables, `wandb sync`, the public API and wandb-workspaces. It records all calls, can be told to
fail, and can go away and come back with what it had:

    with WandbServer(tmp_path) as server:
        subprocess.run([...], env=os.environ | server.environment())
        assert not server.missing  # nothing was asked for that it does not model
"""

import base64
import gzip
import hashlib
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.wandb_server.documents import Document, GraphQLError
from tests.wandb_server.mutations import Mutations
from tests.wandb_server.state import now

API_KEY = "k" * 40


class WandbServer(Mutations):
    """W&B server; see the module's docstring.

    Args:
        root: directory for the stored files.
        entity: name of the only user.
    """

    def __init__(self, root: Path, entity: str = "emu") -> None:
        super().__init__(root, entity)
        # Fault injection [(regex on "METHOD path operation", HTTP status)]: each fails one request.
        self.fail_next: list[tuple[str, int]] = []
        # Delays [(regex on the same, seconds)] of every matching request.
        self.slow: list[tuple[str, float]] = []
        self._stopped = threading.Event()
        self._port = 0
        self._http: ThreadingHTTPServer | None = None

    def start(self) -> "WandbServer":
        """Start listening; on the same port again after `stop`."""
        handler = type("Handler", (_Handler,), {"emulator": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._http.daemon_threads = True
        self._stopped.clear()
        self._port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self._port}"
        serve = {"poll_interval": 0.05}
        threading.Thread(target=self._http.serve_forever, kwargs=serve, daemon=True).start()
        return self

    @property
    def running(self) -> bool:
        """Whether the server is listening."""
        return self._http is not None

    def stop(self) -> None:
        """Stop at once, dropping open connections."""
        assert self._http is not None
        http, self._http = self._http, None
        self._stopped.set()
        http.shutdown()
        http.server_close()

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        if self._http is not None:
            self.stop()

    def environment(self) -> dict[str, str]:
        """Environment variables that point the SDK to this server only."""
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": API_KEY,
            "WANDB_ENTITY": self.entity,
            "WANDB_ERROR_REPORTING": "false",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def linger(self, request: str) -> None:
        """Delay a request as configured in `slow`, unless the server is stopped meanwhile."""
        seconds = max((s for rx, s in self.slow if re.search(rx, request)), default=0.0)
        if seconds:
            self._stopped.wait(seconds)

    def unhandled(self) -> list[dict[str, Any]]:
        """Requests that the server does not implement, or refused."""
        return [call for call in self.calls if call["op"] in ("UNHANDLED", "401")]

    def execute(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one GraphQL request."""
        document = Document(body["query"], body.get("operationName"), body.get("variables"))
        try:
            with self.lock:
                mutation = document.kind == "mutation"
                root = self.root_mutation() if mutation else self.root_query()
                answer: dict[str, Any] = {"data": document.answer(root)}
        except Exception as error:  # a mistake here must show as an error, not as a hang
            what = str(error) if isinstance(error, GraphQLError) else f"server: {error!r}"
            answer = {"data": None, "errors": [{"message": what, "path": [document.name]}]}
        self.missing |= document.missing
        self.log(op=f"{document.kind} {document.name}", variables=document.variables)
        return answer

    def file_stream(self, entity, project, run, body):
        r = self.run(entity, project, run, create=True)
        for fname, chunk in (body.get("files") or {}).items():
            off, lines = chunk.get("offset", 0), chunk.get("content") or []
            if fname == "wandb-history.jsonl":
                r["history"][off : off + len(lines)] = lines
            elif fname == "wandb-events.jsonl":
                r["events"][off : off + len(lines)] = lines
            elif fname == "wandb-summary.json":
                r["summary"] = lines[-1] if lines else r["summary"]
            elif fname == "output.log":
                r["lines"].update(enumerate(lines, off))
        r["heartbeat"] = now()
        if body.get("complete"):
            r["exitcode"] = body.get("exitcode")
            r["state"] = "finished" if not r["exitcode"] else "failed"
        self.log(
            op="REST file_stream",
            run=run,
            files={
                k: (v.get("offset"), len(v.get("content") or []))
                for k, v in (body.get("files") or {}).items()
            },
            other={k: v for k, v in body.items() if k != "files"},
        )
        return {"exitcode": None, "limits": {}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    emulator: WandbServer

    def log_message(self, *a):
        pass

    def body(self):
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            data = b""
            while n := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    def send(self, code, data=b"", ctype="application/json", headers=()):
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        self.send_response(code)
        self.send_header("Content-Type", ctype)
        self.send_header("Content-Length", str(len(data)))
        for k, v in headers:
            self.send_header(k, v)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_any(self):
        emu, path = self.emulator, urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        data = self.body()
        if not emu.running:  # an old connection: as dead as the server
            self.close_connection = True
            return None
        op = ""
        if path == "/graphql":
            req = json.loads(data)
            m = re.search(r"\b(query|mutation)\s+(\w+)", req["query"])
            op = m.group(2) if m else ""
        emu.linger(f"{self.command} {path} {op}")
        if not emu.running:
            self.close_connection = True
            return None
        for k, (rx, status) in enumerate(emu.fail_next):
            if re.search(rx, f"{self.command} {path} {op}"):
                del emu.fail_next[k]
                emu.log(op="INJECTED", status=status, path=path, gql=op)
                return self.send(status, {"error": "injected"})

        if path == "/graphql" and self.command == "POST":
            auth = self.headers.get("Authorization", "")
            try:
                key = base64.b64decode(auth.removeprefix("Basic ")).decode().partition(":")[2]
            except Exception:
                key = ""
            if len(key) < 40:
                emu.log(op="401", auth=auth[:12])
                return self.send(401, {"errors": [{"message": "missing or short API key"}]})
            return self.send(200, emu.execute(req))

        parts = path.strip("/").split("/")
        if self.command == "POST" and parts[0] == "files" and parts[-1] == "file_stream":
            return self.send(200, emu.file_stream(*parts[1:4], json.loads(data)))
        if parts[0] == "storage":
            key = path[len("/storage/") :]
            blob = emu.blob(key)
            if self.command == "PUT":
                want = self.headers.get("Content-MD5")
                got = base64.b64encode(hashlib.md5(data).digest()).decode()
                if want and want != got:
                    emu.log(op="REST PUT md5 mismatch", key=key)
                    return self.send(400, {"error": "md5 mismatch"})
                tmp = blob.with_suffix(f".{threading.get_ident()}")
                tmp.write_bytes(data)
                tmp.replace(blob)
                emu.log(op="REST PUT storage", key=key, bytes=len(data), headers=dict(self.headers))
                return self.send(200, b"", headers=[("ETag", f'"{hashlib.md5(data).hexdigest()}"')])
            if not blob.exists():
                emu.log(op="REST GET storage 404", key=key)
                return self.send(404, {"error": "no such object"})
            content = blob.read_bytes()
            emu.log(
                op="REST GET storage", key=key, bytes=len(content), range=self.headers.get("Range")
            )
            if m := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
                a, b = int(m[1]), int(m[2] or len(content) - 1)
                return self.send(
                    206,
                    content[a : b + 1],
                    "application/octet-stream",
                    [("Content-Range", f"bytes {a}-{min(b, len(content) - 1)}/{len(content)}")],
                )
            return self.send(200, content, "application/octet-stream")
        if parts[0] == "artifactsV2":  # .../{artifact id}/{md5 in hex}/{file name}
            blob = emu.blob(f"artifact/{parts[-3]}/{parts[-2]}")
            emu.log(op="REST GET artifactsV2", path=path, hit=blob.exists())
            return (
                self.send(200, blob.read_bytes(), "application/octet-stream")
                if blob.exists()
                else self.send(404)
            )
        if path in ("/healthz", "/ready"):
            return self.send(200, {"ok": True})
        if path.startswith("/sdk/otel/"):  # the SDK's own telemetry
            return self.send(200, {})
        emu.log(
            op="UNHANDLED",
            method=self.command,
            path=self.path,
            body=data[:2000].decode("utf8", "replace"),
        )
        return self.send(404, {"error": f"server: no {self.command} {path}"})

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_any
