"""Send what a run could not, and see that it arrives: `python -m hvp.artifacts.sync OUTPUT_DIR`.

`wandb sync` prints success and exits 0 even when staged files are gone. So everything is looked up
at the server afterwards: the run and its steps, and every artifact by the digest of its manifest.
An artifact that has not arrived is published again from the local store, where its files are
verified first. What is still missing is named, and the exit status is 1.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hvp.artifacts.local import LocalStore
from hvp.artifacts.wandb.queue import Outbox, Parcel
from hvp.artifacts.wandb.record import RunRecord, send
from hvp.artifacts.wandb.run import WandbRun, close_run
from hvp.artifacts.wandb.store import WandbStore
from hvp.errors import ArtifactError, HVPError, ServerError
from hvp.log import say

if TYPE_CHECKING:
    from wandb.apis.public import Run


_SEND_SECONDS = 600.0


@dataclass(frozen=True)
class Delivery:
    """What became of one thing that was to be sent."""

    what: str
    arrived: bool
    remark: str


def sync(output_dir: Path) -> list[Delivery]:
    """Send what is left of the run in `output_dir` and look up whether it has arrived.

    Raises:
        ArtifactError: there is no run, a process still logs to it, or the server cannot be reached.
    """
    record = RunRecord.read(output_dir)
    settings = _settings(record)
    reason = settings.why_not_online()
    if reason is not None:
        raise ServerError(f"W&B cannot be reached: {reason}; nothing was sent")
    settings.set_environment()
    record.lock()
    sent = send(record, _SEND_SECONDS)
    deliveries = [_look_up_run(record, settings, sent)]
    record.unlock()
    store = WandbStore(settings, record.output_dir / "wandb" / "fetched")
    outbox = Outbox(record.output_dir, LocalStore(record.output_dir))
    try:
        deliveries += [_deliver(parcel, store, outbox, record) for parcel in outbox.parcels()]
    finally:
        close_run()
    return deliveries


def _settings(record: RunRecord) -> WandbRun:
    return WandbRun(
        mode="online",
        base_url=record.base_url,
        entity=record.entity,
        project=record.project,
        group=None,
        name=None,
        job_type=None,
        dir=str(record.output_dir),
        init_timeout=60,
        finish_timeout=600,
        patience=60,
    )


def _look_up_run(record: RunRecord, settings: WandbRun, sent: bool) -> Delivery:
    what = f"run {record.id}"
    if not sent:
        return Delivery(what, False, "`wandb sync` failed; run this again")
    found = _run_at_wandb(record, settings)
    if found is None:
        return Delivery(what, False, "not at the server")
    there = found.lastHistoryStep + 1
    logged = sum(segment.steps or 0 for segment in record.segments)
    if there < logged:
        return Delivery(what, False, f"{there} of {logged} steps are at the server")
    killed = sum(segment.steps is None for segment in record.segments)
    remark = f"{there} steps at {found.url}"
    if killed:
        remark += f" ({killed} of its processes were killed before they could count theirs)"
    return Delivery(what, True, remark)


def _run_at_wandb(record: RunRecord, settings: WandbRun) -> "Run | None":
    import wandb

    api = settings.api()
    entity = record.entity or api.default_entity
    try:
        run = api.run(f"{entity}/{record.project}/{record.id}")
        run.load(force=True)
    except (wandb.Error, ValueError):
        return None
    return run


def _deliver(parcel: Parcel, store: WandbStore, outbox: Outbox, record: RunRecord) -> Delivery:
    what = f"{parcel.type.value} {parcel.reference}"
    again = ""
    try:
        found = store.find_manifest(parcel.name, parcel.type, parcel.manifest_digest)
        if found is None:  # not logged while the run was online, or lost by `wandb sync`
            artifact = LocalStore(parcel.store).fetch(parcel.reference)
            store.publish(
                artifact.path,
                name=parcel.name,
                type=parcel.type,
                metadata=artifact.metadata,
                inputs=parcel.inputs,
                aliases=[alias for alias in artifact.aliases if alias != "latest"],
            )
            found = store.find_manifest(parcel.name, parcel.type, parcel.manifest_digest)
            again = ", published from the local store"
        if found is None:
            return Delivery(what, False, "not at the server")
        store.link_inputs(parcel.inputs, record.id)
        reference = found.qualified_name
    except ArtifactError as error:
        return Delivery(what, False, str(error))
    outbox.remove(parcel)
    return Delivery(what, True, f"{reference}{again}")


def main() -> None:
    """Entry point of `python -m hvp.artifacts.sync`."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m hvp.artifacts.sync OUTPUT_DIR")
    try:
        deliveries = sync(Path(sys.argv[1]))
    except HVPError as error:
        sys.exit(f"error: {error}")
    for delivery in deliveries:
        mark, style = ("arrived", "green") if delivery.arrived else ("MISSING", "red")
        say(f"{mark}  {delivery.what}: {delivery.remark}", style=style)
    missing = [delivery for delivery in deliveries if not delivery.arrived]
    if missing:
        sys.exit(f"error: {len(missing)} of {len(deliveries)} did not arrive, see above")


if __name__ == "__main__":
    main()
