"""Missing metrics and baselines, each with the reason and the command that gets it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hvp.errors import HVPError
from hvp.evaluation.results import NotComputed


class Unavailable(HVPError):
    """A metric or baseline cannot be had here; the report says why.

    Args:
        why: the reason, one sentence with its full stop.
        command: the command that would compute it; empty if there is none.
        unset: whether the reason is that a setting is null (`evaluate.inception`): then optional
            measures are left out without a word.
    """

    def __init__(self, why: str, command: str = "", unset: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.command = command
        self.unset = unset


@dataclass(frozen=True)
class Missing:
    """Metrics or baselines that are missing for one reason."""

    names: tuple[str, ...]
    """The metrics or baselines, as people call them."""
    reason: Unavailable


def merge(missing: Iterable[Missing]) -> tuple[NotComputed, ...]:
    """One item for everything that is missing for the same reason, in the given order.

    Example:
        >>> no_videos = Unavailable("There are no videos.")
        >>> both = merge([Missing(("PSNR", "SSIM"), no_videos), Missing(("LPIPS",), no_videos)])
        >>> [item.what for item in both]
        ['PSNR, SSIM and LPIPS']
    """
    names: dict[tuple[str, str], list[str]] = {}
    for item in missing:
        names.setdefault((item.reason.why, item.reason.command), []).extend(item.names)
    return tuple(
        NotComputed(_enumeration(list(dict.fromkeys(of_reason))), why, command)
        for (why, command), of_reason in names.items()
    )


def _enumeration(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
