"""GraphQL nodes of users, projects and runs: plain dicts; callables take a field's arguments."""

import json
import re

from tests.wandb_server.state import State, connection, gid


class Runs(State):
    """Builds the nodes of users, projects and runs."""

    def n_entity(self, name):
        return {
            "__typename": "Entity",
            "id": gid("Entity", name),
            "name": name,
            "isTeam": False,
            "organization": None,
            "user": None,
            "xxhashDigestsEnabled": False,
            "readOnly": False,
            "defaultAccess": "PRIVATE",
            "entityType": "user",
            "available": True,
            "codeSavingEnabled": False,
        }

    def n_viewer(self):
        return {
            "__typename": "User",
            "id": gid("User", 1),
            "entity": self.entity,
            "name": self.username,
            "username": self.username,
            "email": "emu@localhost",
            "admin": False,
            "flags": "{}",
            "deletedAt": None,
            "teams": connection([{"name": self.entity}]),
            "apiKeys": connection([]),
            "accountType": "MEMBER",
            "organizations": [],
            "defaultEntity": lambda a: self.n_entity(self.entity),
        }

    def n_project(self, p):
        if p is None:
            return None

        def coll(name, type_=None):
            c = p["collections"].get(name)
            return self.n_collection(c) if c and type_ in (None, c["type"]) else None

        def types():
            return list(dict.fromkeys(c["type"] for c in p["collections"].values()))

        def atype(t):
            if t not in types():
                return None

            def colls(a):
                return connection(
                    [self.n_collection(c) for c in p["collections"].values() if c["type"] == t], a
                )

            return {
                "__typename": "ArtifactType",
                "id": gid("ArtifactType", t),
                "name": t,
                "description": None,
                "createdAt": p["created"],
                "artifactCollection": lambda a: coll(a["name"], t),
                "artifactCollections": colls,
                "artifactSequences": colls,
            }

        def membership(a):
            c, _, al = a["name"].partition(":")
            c = p["collections"].get(c)
            return self.n_membership(c, self.resolve(c, al or "latest"))

        def runs(a):
            rs = list(p["runs"].values())
            flt = json.loads(a.get("filters") or "{}")
            rs = [r for r in rs if self.match(r, flt)]
            order = a.get("order") or "+created_at"
            rs.sort(key=lambda r: r["n"], reverse=order.startswith("-"))
            return rs

        return {
            "__typename": "Project",
            "id": p["id"],
            "internalId": p["internalId"],
            "name": p["name"],
            "entityName": p["entity"],
            "entity": lambda a: self.n_entity(p["entity"]),
            "createdAt": p["created"],
            "isBenchmark": False,
            "readOnly": False,
            "user": lambda a: self.n_viewer(),
            "description": None,
            "access": "PRIVATE",
            "views": "{}",
            "totalSweeps": 0,
            "sweeps": lambda a: connection([]),
            "tags": [],
            "run": lambda a: self.n_run(p["runs"].get(a["name"])),
            "bucket": lambda a: self.n_run(p["runs"].get(a["name"])),
            "runs": lambda a: connection([self.n_run(r) for r in runs(a)], a),
            "runCount": lambda a: len(runs(a)),
            "artifactType": lambda a: atype(a["name"]),
            "artifactTypes": lambda a: connection([atype(t) for t in types()], a),
            "artifactCollection": lambda a: coll(a["name"]),
            "artifactCollections": lambda a: connection(
                [self.n_collection(c) for c in p["collections"].values()], a
            ),
            "artifactCollectionMembership": membership,
            "artifact": lambda a: self.n_artifact(
                self.resolve(
                    p["collections"].get(a["name"].split(":")[0]),
                    ([*a["name"].split(":"), "latest"])[1],
                )
            ),
            "allViews": lambda a: connection(
                [
                    self.n_view(v)
                    for v in self.views.values()
                    if v["project"] is p
                    and v["type"] == a.get("viewType", v["type"])
                    and a.get("viewName") in (None, v["name"])
                ],
                a,
            ),
        }

    @staticmethod
    def match(run, flt):
        """Evaluate a filter (the subset of MongoDB's language that tests use)."""
        for k, v in (flt or {}).items():
            if k in ("$and", "$or"):
                if not (all if k == "$and" else any)(Runs.match(run, f) for f in v):
                    return False
                continue
            cur = {
                "display_name": run["displayName"],
                "displayName": run["displayName"],
                "name": run["name"],
                "state": run["state"],
                "jobType": run["jobType"],
                "job_type": run["jobType"],
                "group": run["group"],
            }.get(k)
            if k.startswith("config."):
                cur = json.loads(run["config"])
                for part in k.split(".")[1:]:
                    cur = cur.get(part) if isinstance(cur, dict) else None
                if isinstance(cur, dict) and "value" in cur:
                    cur = cur["value"]
            if isinstance(v, dict):
                ok = all(
                    {
                        "$eq": cur == x,
                        "$ne": cur != x,
                        "$in": isinstance(x, list) and cur in x,
                        "$regex": bool(re.search(str(x), str(cur))),
                    }.get(op, True)
                    for op, x in v.items()
                )
            else:
                ok = cur == v
            if not ok:
                return False
        return True

    def n_run(self, r):
        if r is None:
            return None
        p = r["project"]
        rows = [json.loads(x) for x in r["history"]]

        def sampled(a):
            out = []
            for spec in a["specs"]:
                spec = json.loads(spec)
                keys = [k for k in spec.get("keys", []) if k != "_step"]
                out.append([x for x in rows if all(k in x for k in keys)] if keys else rows)
            return out

        def page(a):
            return [
                x
                for i, x in enumerate(r["history"])
                if a.get("minStep", 0) <= json.loads(x).get("_step", i) < a.get("maxStep", 1 << 60)
            ][: a.get("pageSize") or None]

        keys = {
            k: {"typeCounts": [{"type": "number", "count": len(rows)}]} for x in rows for k in x
        }

        # Only COMMITTED ones: the client asserts on a PENDING artifact in these lists.
        def arts(ids):
            return lambda a: connection(
                [
                    self.n_artifact(self.artifacts[i])
                    for i in dict.fromkeys(r[ids])
                    if self.artifacts[i]["state"] == "COMMITTED"
                ],
                a,
            )

        return {
            "__typename": "Run",
            "id": r["id"],
            "name": r["name"],
            "displayName": r["displayName"] or r["name"],
            "description": r["description"],
            "notes": r["notes"],
            "config": r["config"],
            "summaryMetrics": r["summary"],
            "systemMetrics": "{}",
            "state": r["state"],
            "group": r["group"],
            "groupName": r["group"],
            "jobType": r["jobType"],
            "tags": r["tags"],
            "sweepName": None,
            "sweep": None,
            "createdAt": r["created"],
            "heartbeatAt": r["heartbeat"],
            "updatedAt": r["heartbeat"],
            "commit": None,
            "readOnly": False,
            "user": lambda a: self.n_viewer(),
            "project": lambda a: self.n_project(p),
            "projectId": p["internalId"],
            "stopped": False,
            "shouldStop": False,
            "historyLineCount": len(r["history"]),
            "logLineCount": len(r["lines"]),
            "eventsLineCount": len(r["events"]),
            "historyTail": json.dumps(r["history"][-1:]),
            "eventsTail": json.dumps(r["events"][-1:]),
            "wandbConfig": lambda a: json.dumps(
                {
                    k: v
                    for k, v in json.loads(r["config"]).get("_wandb", {}).get("value", {}).items()
                    if k in (a.get("keys") or [])
                }
            ),
            "historyKeys": {"sets": [], "keys": keys, "lastStep": len(rows) - 1},
            "history": page,
            "sampledHistory": sampled,
            "parquetHistory": lambda a: {"parquetUrls": [], "liveData": rows},
            "events": lambda a: r["events"],
            "fileCount": len(r["files"]),
            "host": None,
            "runInfo": None,
            "outputArtifacts": arts("outputs"),
            "inputArtifacts": arts("inputs"),
            "files": lambda a: connection(
                [
                    self.n_file(f"run/{r['id']}/{n}", n)
                    for n in r["files"]
                    if not a.get("names") or n in a["names"]
                ],
                a,
            ),
        }
