"""GraphQL queries of the W&B server."""

from tests.wandb_server.artifacts import Artifacts
from tests.wandb_server.state import FEATURES, connection


class Queries(Artifacts):
    """Root type `Query`."""

    features = FEATURES

    def root_query(self):
        def server_info(a):
            return {
                "__typename": "ServerInfo",
                "features": [{"name": k, "isEnabled": v} for k, v in self.features.items()],
                "cliVersionInfo": {"max_cli_version": "99.0.0", "min_cli_version": "0.0.0"},
                "latestLocalVersionInfo": None,
            }

        def project(a):
            return self.n_project(self.project(a.get("entityName"), a.get("name")))

        return {
            "__typename": "Query",
            "viewer": lambda a: self.n_viewer(),
            "serverInfo": server_info,
            "entity": lambda a: self.n_entity(a["name"]),
            "project": project,
            "model": project,
            "models": lambda a: connection(
                [
                    self.n_project(p)
                    for (e, _), p in self.projects.items()
                    if e == a.get("entityName", e)
                ],
                a,
            ),
            "projects": lambda a: connection(
                [
                    self.n_project(p)
                    for (e, _), p in self.projects.items()
                    if e == a.get("entityName", e)
                ],
                a,
            ),
            "artifact": lambda a: self.n_artifact(self.artifacts.get(a["id"])),
            "artifactCollection": lambda a: next(
                (
                    self.n_collection(c)
                    for p in self.projects.values()
                    for c in p["collections"].values()
                    if c["id"] == a["id"]
                ),
                None,
            ),
            "clientIDMapping": lambda a: (
                {"serverID": self.client_ids[a["clientID"]]}
                if a["clientID"] in self.client_ids
                else None
            ),
            "organization": lambda a: None,
            "view": lambda a: self.n_view(self.views[a["id"]]) if a["id"] in self.views else None,
        }
