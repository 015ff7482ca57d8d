"""Upload of offline runs and queued artifacts: `python -m hvp.artifacts.sync OUTPUT_DIR`.

`wandb sync` prints success and exits 0 even when staged files are gone. So everything is looked up
at the server afterwards: the run and its steps, and every artifact by the digest of its manifest.
An artifact that has not arrived is published again from the local store, where its files are
verified first. Each missing thing is named, and the exit status is 1.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hvp.artifacts.local import LocalStore
from hvp.artifacts.wandb.queue import QueuedArtifact, UploadQueue
from hvp.artifacts.wandb.record import RunRecord, upload_segments
from hvp.artifacts.wandb.run import WandbRun, close_run
from hvp.artifacts.wandb.store import WandbStore
from hvp.errors import ArtifactError, HVPError, ServerError
from hvp.log import say
from hvp.signals import orderly_exit

if TYPE_CHECKING:
    from wandb.apis.public import Run


_SEND_SECONDS = 600.0


@dataclass(frozen=True)
class UploadResult:
    """Whether a run or an artifact is at the server now."""

    what: str
    arrived: bool
    remark: str
    """Where it is, or why it is not there."""


def sync(output_dir: Path) -> list[UploadResult]:
    """Upload the rest of the run in `output_dir` and its queue, and check that all arrived.

    Raises:
        ArtifactError: there is no run, a process still logs to it, or the server cannot be reached.
    """
    record = RunRecord.read(output_dir)
    settings = _settings(record)
    reason = settings.offline_reason()
    if reason is not None:
        raise ServerError(f"W&B cannot be reached: {reason}; nothing was sent")
    settings.set_environment()
    record.lock()
    sent = upload_segments(record, _SEND_SECONDS)
    results = [_check_run(record, settings, sent)]
    record.unlock()
    store = WandbStore(settings, record.output_dir / "wandb" / "fetched")
    queue = UploadQueue(record.output_dir, LocalStore(record.output_dir))
    try:
        results += [_upload(entry, store, queue, record) for entry in queue.entries()]
    finally:
        close_run()
    return results


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


def _check_run(record: RunRecord, settings: WandbRun, sent: bool) -> UploadResult:
    what = f"run {record.id}"
    if not sent:
        return UploadResult(what, False, "`wandb sync` failed; run this again")
    found = _run_at_wandb(record, settings)
    if found is None:
        return UploadResult(what, False, "not at the server")
    there = found.lastHistoryStep + 1
    logged = sum(segment.steps or 0 for segment in record.segments)
    if there < logged:
        return UploadResult(what, False, f"{there} of {logged} steps are at the server")
    killed = sum(segment.steps is None for segment in record.segments)
    remark = f"{there} steps at {found.url}"
    if killed:
        remark += f" ({killed} of its processes were killed before they could count theirs)"
    return UploadResult(what, True, remark)


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


def _upload(
    entry: QueuedArtifact, store: WandbStore, queue: UploadQueue, record: RunRecord
) -> UploadResult:
    what = f"{entry.type.value} {entry.reference}"
    again = ""
    try:
        found = store.find_manifest(entry.name, entry.type, entry.manifest_digest)
        if found is None:  # not logged while the run was online, or lost by `wandb sync`
            artifact = LocalStore(entry.store).fetch(entry.reference)
            store.publish(
                artifact.path,
                name=entry.name,
                type=entry.type,
                metadata=artifact.metadata,
                inputs=entry.inputs,
                aliases=[alias for alias in artifact.aliases if alias != "latest"],
            )
            found = store.find_manifest(entry.name, entry.type, entry.manifest_digest)
            again = ", published from the local store"
        if found is None:
            return UploadResult(what, False, "not at the server")
        store.link_inputs(entry.inputs, record.id)
        reference = found.qualified_name
    except ArtifactError as error:
        return UploadResult(what, False, str(error))
    queue.remove(entry)
    return UploadResult(what, True, f"{reference}{again}")


def main() -> None:
    """Entry point of `python -m hvp.artifacts.sync`."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m hvp.artifacts.sync OUTPUT_DIR")
    try:
        results = sync(Path(sys.argv[1]))
    except HVPError as error:
        sys.exit(f"error: {error}")
    for result in results:
        mark, style = ("arrived", "green") if result.arrived else ("MISSING", "red")
        say(f"{mark}  {result.what}: {result.remark}", style=style)
    missing = [result for result in results if not result.arrived]
    if missing:
        sys.exit(f"error: {len(missing)} of {len(results)} did not arrive, see above")


if __name__ == "__main__":
    with orderly_exit():
        main()
