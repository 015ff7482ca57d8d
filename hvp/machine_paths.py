"""Paths in what is published: relative to the folder of a run's work, never those of a machine.

    /home/ann/work/outputs/a.ckpt   outputs/a.ckpt    (work_dir=/home/ann/work)
    /data/kitti                     .../kitti         (elsewhere: the last part alone)

Reports, artifact metadata and W&B's config are read by others, on other machines.
"""

import re
from pathlib import Path
from typing import Any

# A path that begins a word of a sentence, or stands behind `key=`, `folder:`, a quote or a bracket.
_IN_TEXT = re.compile(r"""(?<![^\s=:,"'(\[{])/(?!/)[^\s,;"'()\[\]{}]+""")
# A setting that is one path, or `key=` and one.
_WHOLE = re.compile(r"""((?:[\w.@+~-]+[=:])*)(/(?!/)[^,\[\]{}"'\n]+)""")


def without_machine_paths(value: Any, work_dir: Path) -> Any:
    """Copy of settings (dicts, lists, scalars) whose strings name no absolute path.

    Args:
        value: settings; a string may be a path, or an override `key=/path`.
        work_dir: folder that paths below it are relative to.
    """
    if isinstance(value, dict):
        return {key: without_machine_paths(item, work_dir) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_machine_paths(item, work_dir) for item in value)
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str):
        return value
    if match := _WHOLE.fullmatch(value):
        return match[1] + _shown(match[2], work_dir)
    return text_without_machine_paths(value, work_dir)


def text_without_machine_paths(text: str, work_dir: Path) -> str:
    """A sentence or command line whose words name no absolute path; see `without_machine_paths`."""
    for base in dict.fromkeys((str(work_dir.absolute()), str(work_dir.resolve()))):
        if base != "/":
            text = text.replace(f"{base}/", "")
    return _IN_TEXT.sub(lambda match: _shown(match[0], work_dir), text)


def _shown(path: str, work_dir: Path) -> str:
    for base in (work_dir.absolute(), work_dir.resolve()):
        if Path(path).is_relative_to(base):
            return Path(path).relative_to(base).as_posix()
    return f".../{Path(path).name}"
