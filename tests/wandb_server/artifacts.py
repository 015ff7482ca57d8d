"""GraphQL nodes of artifacts and files of the W&B server."""

import base64
import json
import re

from tests.wandb_server.runs import Runs
from tests.wandb_server.state import connection, gid, now


class Artifacts(Runs):
    """Builds the nodes of artifacts, collections and files."""

    def n_file(self, key, name, digest=None, size=None):
        b = self.blob(key)
        return {
            "__typename": "File",
            "id": gid("File", key),
            "name": name,
            "displayName": name,
            "url": self.storage_url(key),
            "directUrl": self.storage_url(key),
            "mimetype": None,
            "sizeBytes": size if size is not None else (b.stat().st_size if b.exists() else 0),
            "updatedAt": now(),
            "digest": digest,
            "md5": digest,
            "storagePath": key,
            "uploadUrl": self.storage_url(key),
            "uploadHeaders": [],
        }

    def n_collection(self, c):
        if c is None:
            return None
        live = [
            self.artifacts[i] for i in c["versions"] if self.artifacts[i]["state"] == "COMMITTED"
        ]
        return {
            "__typename": "ArtifactSequence",
            "__interfaces__": ("ArtifactCollection",),
            "id": c["id"],
            "name": c["name"],
            "description": None,
            "createdAt": c["created"],
            "updatedAt": c["created"],
            "state": "READY",
            "digestAlgorithm": "MANIFEST_MD5",
            "project": lambda a: self.n_project(c["project"]),
            "defaultArtifactType": {
                "__typename": "ArtifactType",
                "id": gid("ArtifactType", c["type"]),
                "name": c["type"],
            },
            "tags": connection([]),
            "latestArtifact": lambda a: self.n_artifact(live[-1]) if live else None,
            "artifacts": lambda a: connection(
                [self.n_artifact(x) for x in reversed(live)],
                a,
                version=lambda n: f"v{n['versionIndex']}",
            ),
            "aliases": lambda a: connection([self.n_alias(c, al) for al in c["aliases"]], a),
            "artifactMembership": lambda a: self.n_membership(c, self.resolve(c, a["aliasName"])),
        }

    def n_alias(self, c, al):
        return {
            "__typename": "ArtifactAlias",
            "id": gid("ArtifactAlias", f"{c['id']}:{al}"),
            "alias": al,
            "artifactCollection": lambda a: self.n_collection(c),
            "artifactCollectionName": c["name"],
        }

    def aliases_of(self, art):
        c = art["collection"]
        return [al for al, i in c["aliases"].items() if i == art["id"]]

    def resolve(self, c, alias):
        """Collection + alias ('latest', 'v3', custom, or digest) -> committed artifact."""
        if c is None:
            return None
        i = c["aliases"].get(alias)
        if i is None and re.fullmatch(r"v\d+", alias or ""):
            i = next(
                (x for x in c["versions"] if self.artifacts[x]["version"] == int(alias[1:])), None
            )
        if i is None:
            i = next((x for x in c["versions"] if self.artifacts[x]["digest"] == alias), None)
        a = self.artifacts.get(i)
        return a if a and a["state"] == "COMMITTED" else None

    def entries(self, art):
        m = self.manifests.get(art.get("manifest"))
        if not m or not self.blob(m["key"]).exists():
            return {}
        return json.loads(self.blob(m["key"]).read_bytes()).get("contents", {})

    def n_membership(self, c, art):
        if c is None or art is None:
            return None

        def files(a):
            names = a.get("names")
            return connection(
                [
                    self.entry_file(art, n, e)
                    for n, e in sorted(self.entries(art).items())
                    if not names or n in names
                ],
                a,
            )

        return {
            "__typename": "ArtifactCollectionMembership",
            "id": gid("ArtifactCollectionMembership", f"{c['id']}:{art['id']}"),
            "versionIndex": art["version"],
            "createdAt": art["created"],
            "files": files,
            "aliases": [self.n_alias(c, al) for al in self.aliases_of(art)],
            "artifactCollection": lambda a: self.n_collection(c),
            "artifact": lambda a: self.n_artifact(art),
        }

    def entry_key(self, art_id, digest):
        return f"artifact/{art_id}/{base64.b64decode(digest).hex()}"

    def entry_file(self, art, name, e):
        key = (
            self.entry_key(e.get("birthArtifactID") or art["id"], e["digest"])
            if not e.get("ref")
            else "ref"
        )
        return self.n_file(key, name, e["digest"], e.get("size"))

    def n_manifest(self, m):
        return {
            "__typename": "ArtifactManifest",
            "id": m["id"],
            "digest": m["digest"],
            "file": lambda a: {**self.n_file(m["key"], m["name"]), "id": gid("File", m["key"])},
        }

    def n_artifact(self, a):
        if a is None:
            return None
        c, ents = a["collection"], self.entries(a)

        def by_manifest(args):
            return connection(
                [self.entry_file(a, e.get("name", ""), e) for e in args.get("entries") or []]
            )

        return {
            "__typename": "Artifact",
            "id": a["id"],
            "digest": a["digest"],
            "digestAlgorithm": "MANIFEST_MD5",
            "state": a["state"],
            "size": sum(e.get("size", 0) for e in ents.values()),
            "fileCount": len(ents),
            "versionIndex": a["version"],
            "description": a["description"],
            "metadata": a["metadata"],
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "historyStep": None,
            "commitHash": a["hash"],
            "createdAt": a["created"],
            "updatedAt": a["created"],
            "isLinked": False,
            "tags": [{"__typename": "Tag", "id": gid("Tag", t), "name": t} for t in a["tags"]],
            "aliases": [self.n_alias(c, al) for al in self.aliases_of(a)],
            "artifactType": {
                "__typename": "ArtifactType",
                "id": gid("ArtifactType", c["type"]),
                "name": c["type"],
            },
            "artifactSequence": lambda _: self.n_collection(c),
            "currentManifest": lambda _: (
                self.n_manifest(self.manifests[a["manifest"]]) if a.get("manifest") else None
            ),
            "createdBy": lambda _: self.n_run(a["run"]),
            "usedBy": lambda _: connection(
                [self.n_run(r) for r in self.runs.values() if a["id"] in r["inputs"]]
            ),
            "artifactMemberships": lambda _: connection(
                [self.n_membership(c, a)] if a["state"] == "COMMITTED" else []
            ),
            "files": lambda args: connection(
                [self.entry_file(a, n, e) for n, e in sorted(ents.items())], args
            ),
            "filesByManifestEntries": by_manifest,
        }

    def n_view(self, v):
        return {
            "__typename": "View",
            **{k: v[k] for k in ("id", "type", "name", "displayName", "description", "spec")},
            "project": lambda a: self.n_project(v["project"]),
            "user": lambda a: self.n_viewer(),
            "entityName": v["project"]["entity"],
            "createdAt": v["created"],
            "updatedAt": v["created"],
            "coverUrl": None,
            "previewUrl": None,
            "locked": False,
            "viewCount": 0,
            "starCount": 0,
        }
