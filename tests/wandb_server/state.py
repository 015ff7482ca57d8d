"""State of the W&B server: projects, runs, artifacts, files."""

import base64
import datetime as dt
import hashlib
import itertools
import threading
import urllib.parse
from pathlib import Path
from typing import Any

# Feature flags of serverInfo.features (names of the SDK's ServerFeature).
FEATURES = {
    "LARGE_FILENAMES": True,
    "ARTIFACT_TAGS": True,
    "CLIENT_IDS": True,
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES": True,
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP": True,
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION": True,
    "TOTAL_COUNT_IN_FILE_CONNECTION": True,
}


def now():
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def gid(kind, n):
    return base64.b64encode(f"{kind}:{n}".encode()).decode()


def connection(nodes, args=None, typename=None, **edge):
    """Relay connection with offset cursors."""
    args = args or {}
    nodes = list(nodes)
    start = int(args.get("after") or 0)
    first = args.get("first")
    end = len(nodes) if first is None else min(len(nodes), start + int(first))
    return {
        "totalCount": len(nodes),
        "pageInfo": {
            "__typename": "PageInfo",
            "hasNextPage": end < len(nodes),
            "endCursor": str(end),
        },
        "edges": [
            {"node": n, "cursor": str(start + i + 1), **{k: f(n) for k, f in edge.items()}}
            for i, n in enumerate(nodes[start:end])
        ],
    }


class State:
    """State of the server.

    Args:
        root: directory for the stored files.
        entity: name of the only user.
    """

    url = ""

    def __init__(self, root: Path, entity: str) -> None:
        self.root = root
        (self.root / "blobs").mkdir(parents=True, exist_ok=True)
        self.entity = self.username = entity
        self.lock = threading.RLock()
        self.ids = itertools.count(1)
        self.projects: dict[tuple[str, str], dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.manifests: dict[str, dict[str, Any]] = {}
        self.client_ids: dict[str, str] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.missing: set[str] = set()
        self.calls: list[dict[str, Any]] = []

    def log(self, **record: Any) -> None:
        """Record a request."""
        with self.lock:
            self.calls.append(record)

    def blob(self, key):
        return self.root / "blobs" / hashlib.sha256(key.encode()).hexdigest()

    def storage_url(self, key):
        return f"{self.url}/storage/{urllib.parse.quote(key, safe='/')}"

    def project(self, entity, name, create=False):
        key = (entity or self.entity, name or "uncategorized")
        if key not in self.projects and create:
            n = next(self.ids)
            self.projects[key] = {
                "id": gid("Project", n),
                "internalId": str(n),
                "entity": key[0],
                "name": key[1],
                "created": now(),
                "runs": {},
                "collections": {},
            }
        return self.projects.get(key)

    def run(self, entity, project, name, create=False):
        p = self.project(entity, project, create)
        if p is None:
            return None
        if name not in p["runs"] and create:
            n = next(self.ids)
            p["runs"][name] = r = {
                "id": gid("Run", n),
                "name": name,
                "project": p,
                "displayName": None,
                "config": "{}",
                "summary": "{}",
                "state": "running",
                "history": [],
                "events": [],
                "lines": {},
                "files": {},
                "created": now(),
                "heartbeat": now(),
                "inputs": [],
                "outputs": [],
                "exitcode": None,
                "jobType": None,
                "group": None,
                "tags": [],
                "notes": None,
                "description": None,
                "n": n,
            }
            self.runs[r["id"]] = r
        return p["runs"].get(name)
