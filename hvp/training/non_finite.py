"""Ends a training whose loss, gradients or weights are no longer finite, with a diagnosis.

Beside the checkpoints lie then `non-finite-<batch>-rank<n>.json` (step, losses, gradient norms,
learning rates, terms and parameters concerned, clips) and `.npz` (the clips of the batch as the
model saw them). The last checkpoint stays: what is not finite is never saved.

Per batch this reads the losses and gradient norms from the device once (one synchronisation).
"""

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from hvp.errors import HVPError
from hvp.files import atomic_path, write_json
from hvp.log import rank, say
from hvp.training.checkpoints import checkpoint_dir

_IN_A_ROW = 3
_SENSIBLE = 1e3
"""A loss beyond this many times its running median has left any sensible range."""
_MEDIAN_OF = 100  # batches
_FIRST = 20  # batches without a warning
_NAMED = 3  # names in a message


class NonFinite(HVPError):
    """Non-finite training: a loss, gradient or weight became NaN or infinite."""


class EndNonFinite(Callback):
    """Callback that ends a non-finite training, and warns of a loss out of any sensible range."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []  # of this batch, one per backward pass
        self._norms: list[Tensor] = []  # of this batch, one per optimizer step
        self._history: defaultdict[int, deque[float]] = defaultdict(
            lambda: deque(maxlen=_MEDIAN_OF)
        )
        self._beyond: defaultdict[int, int] = defaultdict(int)  # batches in a row
        self._warned = False
        self._expected: frozenset[str] = frozenset()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what is not finite on purpose (masks of -inf)."""
        self._expected = frozenset(name for name, _ in _not_finite(dict(pl_module.named_buffers())))

    def on_before_backward(self, trainer: pl.Trainer, _: Any, loss: Tensor) -> None:
        """Note the loss of a backward pass."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Note the gradient norm; with a GradScaler (16-mixed) infinite ones are normal."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        groups = optimizer.param_groups
        # In float32: the sum of squares of finite float16 gradients may be infinite.
        gradients = [p.grad.float() for g in groups for p in g["params"] if p.grad is not None]
        if gradients:
            norm = torch.nn.utils.get_total_norm(gradients)
            self._norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the numbers of the batch."""
        numbers = [n.float().to(pl_module.device) for n in self._losses + self._norms]
        values = torch.stack(numbers).tolist() if numbers else []
        losses, norms = values[: len(self._losses)], values[len(self._losses) :]
        self._losses, self._norms = [], []
        diverged = not all(map(math.isfinite, values))
        if diverged:
            diagnosis = self._diagnosis(trainer, pl_module, batch, losses, norms)
        if trainer.strategy.reduce_boolean_decision(diverged, all=False):  # all ranks end together
            raise NonFinite(diagnosis if diverged else "training diverged on another rank")
        self._watch(losses)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to save weights (also averaged ones and statistics) that are not finite.

        Raises:
            NonFinite: names some of them.
        """
        saved = {key: checkpoint.get(key) for key in ("state_dict", "current_model_state")}
        found = [
            name
            for state in saved.values()
            if isinstance(state, Mapping)
            for name, _ in _not_finite(state)
            if name not in self._expected
        ]
        if found:
            raise NonFinite(
                f"training diverged: {_some(found)} not finite at step {trainer.global_step}; "
                f"nothing was saved, the last checkpoint stays; {_advice(trainer)}"
            )

    def _diagnosis(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        batch: Any,
        losses: list[float],
        norms: list[float],
    ) -> str:
        """Write the diagnosis; returns its sentence."""
        number = trainer.fit_loop.total_batch_idx + 1
        logged = {name: float(v) for name, v in trainer.callback_metrics.items()}
        terms = [n for n, v in logged.items() if n.startswith("train/") and not math.isfinite(v)]
        gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
        clips = [str(identity) for identity in getattr(batch, "ids", ())]
        rates = [g["lr"] for o in trainer.optimizers for g in o.param_groups]
        report = {
            "step": trainer.global_step,
            "batch": number,
            "epoch": trainer.current_epoch,
            "losses": losses,
            "gradient_norms": norms,
            "learning_rates": [float(rate) for rate in rates],
            "logged": logged,
            "gradients_not_finite": [name for name, _ in _not_finite(gradients)],
            "weights_not_finite": [name for name, _ in _not_finite(module.state_dict())],
            "clips": clips,
        }
        folder = checkpoint_dir(Path(trainer.default_root_dir))
        path = folder / f"non-finite-{number:09d}-rank{rank()}.json"
        write_json(path, _json(report))
        with atomic_path(path.with_suffix(".npz")) as temporary:
            np.savez(temporary, **_arrays(batch))
        what = _some(terms) if terms else "the loss is"
        if all(map(math.isfinite, losses)):
            concerned = [name for name, _ in _not_finite(gradients)]
            what = f"the gradients of {_some(concerned)}" if concerned else "the gradients are"
        return (
            f"training diverged at step {trainer.global_step} (batch {number}): {what} not finite, "
            f"learning rate {', '.join(f'{float(rate):g}' for rate in dict.fromkeys(rates))}, "
            f"clips {', '.join(clips[:_NAMED])}{', ...' if len(clips) > _NAMED else ''}; {path} "
            f"and its .npz hold the diagnosis and the clips; the last checkpoint stays; "
            f"{_advice(trainer)}"
        )

    def _watch(self, losses: list[float]) -> None:
        """Warn once of a loss beyond any sensible range."""
        for number, loss in enumerate(losses):
            history = self._history[number]
            usual = statistics.median(map(abs, history)) if len(history) >= _FIRST else 0.0
            is_beyond = usual > 0 and abs(loss) > _SENSIBLE * usual
            # One batch alone, as where clips grow longer, is no divergence.
            self._beyond[number] = self._beyond[number] + 1 if is_beyond else 0
            if self._beyond[number] == _IN_A_ROW and not self._warned:
                self._warned = True
                say(
                    f"warning: the loss is {loss:.4g}, its median over the last {len(history)} "
                    f"batches {usual:.4g}: training may diverge; a lower learning rate or "
                    "trainer.gradient_clip_val helps",
                    style="yellow",
                )
            history.append(loss)


def _not_finite(tensors: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Tensors with a NaN or an infinity, by name."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            continue
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if not bool(torch.isfinite(local).all()):
            yield name, tensor


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} {'is' if len(names) == 1 else 'are'}"


def _advice(trainer: pl.Trainer) -> str:
    precision = str(trainer.precision)
    lower = "" if precision.startswith("32") else ", trainer.precision=32-true"
    return (
        "give a lower learning rate (model.*.module.lr), trainer.gradient_clip_val"
        f"{lower}, or look at the clips; the same command alone would meet it again"
    )


def _arrays(batch: Any) -> dict[str, Any]:
    fields = vars(batch) if hasattr(batch, "__dict__") else {"batch": batch}
    tensors = {name: value for name, value in fields.items() if isinstance(value, Tensor)}
    # NumPy has no bfloat16.
    half = (torch.bfloat16, torch.float16)
    return {n: (v.float() if v.dtype in half else v).cpu().numpy() for n, v in tensors.items()}


def _json(value: Any) -> Any:
    """JSON has no NaN: non-finite numbers as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _json(item) for name, item in value.items()}
    return [_json(item) for item in value] if isinstance(value, list) else value
