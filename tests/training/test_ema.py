"""EMA of the weights: formula, validation, publication."""

from pathlib import Path

import torch

from hvp.artifacts.local import LocalStore
from tests.helpers.commands import SMALL, run_here
from tests.helpers.weight_recorder import WeightRecorder, Weights

TRAINING = (
    *SMALL, "stage=image", "predict=false", "callbacks.progress=null",
    "dataset.datamodule.frames_per_recording=9", "trainer.val_check_interval=3",
    "model.image.max_steps=-1", "model.image.max_epochs=3", "model.image.limit_train_batches=3",
    "model.image.module.n_frames_total=4", "model.image.module.n_frames_load=2",
    "+callbacks.recorder={_target_: tests.helpers.weight_recorder.WeightRecorder}",
)  # fmt: skip


def train(work_dir: Path, *overrides: str) -> Weights:
    """Run the stage; returns the published weights."""
    WeightRecorder.trained, WeightRecorder.validated = [], []
    run_here(*TRAINING, *overrides, work_dir=work_dir)
    artifact = LocalStore(work_dir / "artifacts").fetch("image-synthetic-checkpoint")
    return torch.load(artifact.path / "last.ckpt", weights_only=True)["state_dict"]


def means(weights: list[Weights], decay: float) -> list[Weights]:
    """Reference EMA with warm-up, tensor by tensor; integer buffers are those of the last batch."""
    result = [weights[0]]
    for n, newest in enumerate(weights[1:], 2):
        share = min(decay, n / (9 + n))
        result.append(
            {
                name: share * result[-1][name] + (1 - share) * value
                if value.is_floating_point()
                else value
                for name, value in newest.items()
            }
        )
    return result


def test_mean_of_the_weights_is_validated_and_published(tmp_path: Path) -> None:
    """The decay limit of 0.3 is reached during training: the fourth decay is 4/13."""
    last = train(tmp_path, "model.image.ema_decay=0.3")
    assert len(WeightRecorder.trained) == 9
    expected = means(WeightRecorder.trained, 0.3)
    assert len(WeightRecorder.validated) == 3
    for seen, mean in zip(
        [*WeightRecorder.validated, last], [*expected[2::3], expected[-1]], strict=True
    ):
        assert seen.keys() == mean.keys()
        for name, value in mean.items():
            torch.testing.assert_close(seen[name], value, rtol=1e-5, atol=1e-7, msg=name)
    assert not torch.equal(
        last["generator.scales.0.image_out.1.weight"],
        WeightRecorder.trained[-1]["generator.scales.0.image_out.1.weight"],
    )


def test_averaging_leaves_the_training_itself_as_it_is(tmp_path: Path) -> None:
    train(tmp_path / "mean", "model.image.ema_decay=0.9")
    beside = WeightRecorder.trained
    last = train(tmp_path / "none", "model.image.ema_decay=0")
    for name, value in WeightRecorder.trained[-1].items():
        assert torch.equal(beside[-1][name], value), name
        assert torch.equal(last[name], value), name
