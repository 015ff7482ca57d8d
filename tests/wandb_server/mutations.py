"""GraphQL mutations of the W&B server."""

import hashlib

from tests.wandb_server.documents import GraphQLError
from tests.wandb_server.queries import Queries
from tests.wandb_server.state import connection, gid, now


class Mutations(Queries):
    """Root type `Mutation`."""

    def root_mutation(self):
        def inp(f):
            return lambda a: f(a["input"])

        def upsert_bucket(i):
            r = self.runs.get(i.get("id") or "") or self.run(
                i.get("entityName"), i.get("modelName"), i.get("name")
            )
            inserted = r is None
            if inserted:
                r = self.run(i.get("entityName"), i.get("modelName"), i.get("name"), create=True)
            for src, dst in (
                ("displayName", "displayName"),
                ("config", "config"),
                ("summaryMetrics", "summary"),
                ("jobType", "jobType"),
                ("groupName", "group"),
                ("tags", "tags"),
                ("notes", "notes"),
                ("description", "description"),
                ("state", "state"),
            ):
                if i.get(src) is not None:
                    r[dst] = i[src]
            r["heartbeat"] = now()
            return {"bucket": self.n_run(r), "inserted": inserted}

        def create_run_files(i):
            r = self.run(i["entityName"], i["projectName"], i["runName"])
            if r is None:
                raise GraphQLError("run not found")
            for f in i["files"]:
                r["files"].setdefault(f, True)
            return {
                "runID": r["id"],
                "uploadHeaders": [],
                "files": [self.n_file(f"run/{r['id']}/{f}", f) for f in i["files"]],
            }

        def create_artifact(i):
            p = self.project(i["entityName"], i["projectName"], create=True)
            name = (
                i.get("artifactCollectionName") or (i.get("artifactCollectionNames") or [None])[0]
            )
            c = p["collections"].get(name)
            if c is None:
                c = p["collections"][name] = {
                    "id": gid("ArtifactCollection", next(self.ids)),
                    "name": name,
                    "project": p,
                    "type": i["artifactTypeName"],
                    "versions": [],
                    "aliases": {},
                    "created": now(),
                }
            elif c["type"] != i["artifactTypeName"]:
                raise GraphQLError(
                    f"collection {name!r} has type {c['type']!r}, not {i['artifactTypeName']!r}"
                )
            run = p["runs"].get(i.get("runName") or "")
            wanted = [
                x["alias"]
                for x in i.get("aliases") or []
                if x.get("artifactCollectionName", name) == name
            ]
            art = next(
                (
                    self.artifacts[v]
                    for v in reversed(c["versions"])
                    if i.get("enableDigestDeduplication")
                    and self.artifacts[v]["digest"] == i["digest"]
                    and self.artifacts[v]["state"] == "COMMITTED"
                ),
                None,
            )
            if art is None:
                art_id = gid("Artifact", next(self.ids))
                art = self.artifacts[art_id] = {
                    "id": art_id,
                    "collection": c,
                    "digest": i["digest"],
                    "state": "PENDING",
                    "version": len(c["versions"]),
                    "description": i.get("description"),
                    "metadata": i.get("metadata"),
                    "created": now(),
                    "run": run,
                    "tags": [t["tagName"] for t in i.get("tags") or []],
                    "wanted": [],
                    "manifest": None,
                    "hash": hashlib.sha1(art_id.encode()).hexdigest()[:20],
                }
                c["versions"].append(art_id)
            art["wanted"] = list(dict.fromkeys(art["wanted"] + wanted))
            if art["state"] == "COMMITTED":
                self.apply_aliases(art)
            if i.get("clientID"):
                self.client_ids[i["clientID"]] = art["id"]
            if i.get("sequenceClientID"):
                self.client_ids[i["sequenceClientID"]] = c["id"]
            if run is not None:
                run["outputs"].append(art["id"])
            return {"__typename": "CreateArtifactPayload", "artifact": self.n_artifact(art)}

        def create_manifest(i):
            mid = gid("ArtifactManifest", next(self.ids))
            m = self.manifests[mid] = {
                "id": mid,
                "artifact": i["artifactID"],
                "name": i["name"],
                "digest": i["digest"],
                "type": i.get("type", "FULL"),
                "base": i.get("baseArtifactID"),
                "key": f"manifest/{mid}/{i['name']}",
            }
            if m["type"] != "FULL":
                raise GraphQLError(
                    f"manifest type {m['type']} is not known here (incremental artifacts)"
                )
            self.artifacts[i["artifactID"]]["manifest"] = mid
            return {"artifactManifest": self.n_manifest(m)}

        def update_manifest(i):
            m = self.manifests[i["artifactManifestID"]]
            m["digest"] = i.get("digest") or m["digest"]
            return {"artifactManifest": self.n_manifest(m)}

        def create_artifact_files(i):
            nodes = []
            for s in i["artifactFiles"]:
                md5 = s["md5"]
                key = self.entry_key(s["artifactID"], md5)
                nodes.append(
                    {
                        "name": s["name"],
                        "storagePath": key,
                        "uploadUrl": self.storage_url(key),
                        "uploadHeaders": [f"Content-MD5:{md5}"] if md5 else [],
                        "uploadMultipartUrls": None,
                        "artifact": {"id": s["artifactID"]},
                    }
                )
            return {"files": connection(nodes)}

        def commit(i):
            art = self.artifacts[i["artifactID"]]
            for n, e in self.entries(art).items():
                if (
                    not e.get("ref")
                    and not self.blob(
                        self.entry_key(e.get("birthArtifactID") or art["id"], e["digest"])
                    ).exists()
                ):
                    raise GraphQLError(f"cannot commit: file {n!r} was not uploaded")
            art["state"] = "COMMITTED"
            self.apply_aliases(art)
            return {"artifact": self.n_artifact(art)}

        def use(i):
            r = self.run(i["entityName"], i["projectName"], i["runName"])
            art = self.artifacts.get(i["artifactID"])
            if r is None or art is None:
                raise GraphQLError("run or artifact not found")
            r["inputs"].append(art["id"])
            return {"artifact": self.n_artifact(art)}

        def update_artifact(i):
            art = self.artifacts[i["artifactID"]]
            for k in ("description", "metadata"):
                if i.get(k) is not None:
                    art[k] = i[k]
            add = [t["tagName"] for t in i.get("tagsToAdd") or []]
            rem = {t["tagName"] for t in i.get("tagsToDelete") or []}
            art["tags"] = [t for t in dict.fromkeys(art["tags"] + add) if t not in rem]
            return {"artifact": self.n_artifact(art)}

        def aliases(add):
            def f(i):
                art = self.artifacts[i["artifactID"]]
                c = art["collection"]
                for x in i["aliases"]:
                    if add:
                        c["aliases"][x["alias"]] = art["id"]
                    else:
                        c["aliases"].pop(x["alias"], None)
                return {"success": True}

            return f

        def delete_artifact(i):
            art = self.artifacts[i["artifactID"]]
            if self.aliases_of(art) and not i.get("deleteAliases"):
                raise GraphQLError("artifact has aliases")
            art["state"] = "DELETED"
            c = art["collection"]
            c["aliases"] = {k: v for k, v in c["aliases"].items() if v != art["id"]}
            return {"artifact": self.n_artifact(art)}

        def upsert_model(i):
            new = self.project(i.get("entityName"), i.get("name")) is None
            p = self.n_project(self.project(i.get("entityName"), i.get("name"), create=True))
            return {"project": p, "model": p, "inserted": new}

        def upsert_view(i):
            v = self.views.get(i.get("id") or "")
            new = v is None
            if new:
                vid = gid("View", next(self.ids))
                p = self.project(i.get("entityName"), i.get("projectName"), create=True)
                v = self.views[vid] = {
                    "id": vid,
                    "project": p,
                    "created": now(),
                    "type": None,
                    "name": vid[:11],
                    "displayName": "",
                    "description": "",
                    "spec": "{}",
                }
            for k in ("type", "name", "displayName", "description", "spec"):
                if i.get(k) is not None:
                    v[k] = i[k]
            return {"view": self.n_view(v), "inserted": new}

        return {
            "__typename": "Mutation",
            "upsertBucket": inp(upsert_bucket),
            "createRunFiles": inp(create_run_files),
            "createArtifact": inp(create_artifact),
            "createArtifactManifest": inp(create_manifest),
            "updateArtifactManifest": inp(update_manifest),
            "createArtifactFiles": inp(create_artifact_files),
            "commitArtifact": inp(commit),
            "useArtifact": inp(use),
            "updateArtifact": inp(update_artifact),
            "addAliases": inp(aliases(True)),
            "deleteAliases": inp(aliases(False)),
            "deleteArtifact": inp(delete_artifact),
            "upsertModel": inp(upsert_model),
            "upsertView": inp(upsert_view),
            "notifyScriptableRunAlert": inp(lambda i: {"success": True}),
            "markRunFilesUploaded": inp(lambda i: {"success": True}),
            "stopRun": inp(lambda i: {"success": True}),
        }

    def apply_aliases(self, art):
        c = art["collection"]
        for al in [*art["wanted"], "latest"]:
            c["aliases"][al] = art["id"]
        art["wanted"] = []
