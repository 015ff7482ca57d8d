"""vid2vid LightningModule: training, schedules, validation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hvp.clips import collate
from hvp.errors import ConfigError, DataError
from hvp.flow.teachers import GroundTruthFlow
from hvp.image.vid2vid.module import Vid2Vid
from hvp.image.vid2vid.sequence import temporal_groups
from tests.image.small import random_clips, small_generator, small_module


class RandomClips(pl.LightningDataModule):
    """Data module with two clips per epoch, of the length that the model sets."""

    def __init__(self, flow: bool = False, longest: int = 40) -> None:
        super().__init__()
        self.flow = flow
        self.train_length = 0
        self.longest_train_length = longest
        self.lengths_served: list[int] = []

    def train_dataloader(self) -> DataLoader:
        self.lengths_served.append(self.train_length)
        clips = [random_clips(1, self.train_length, flow=self.flow) for _ in range(2)]
        return DataLoader(clips, batch_size=1, collate_fn=collate)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader:
        clips = [random_clips(1, 6, flow=self.flow)]
        return DataLoader(clips, batch_size=1, collate_fn=collate)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        return {"train_length": self.train_length}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.train_length = state_dict["train_length"]


def trainer(folder: Path, epochs: int, **options: Any) -> pl.Trainer:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": epochs,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "reload_dataloaders_every_n_epochs": 1,
        "default_root_dir": folder,
    }
    return pl.Trainer(**{**settings, **options})


VARIANTS = {
    "plain": {"foreground_classes": []},
    "foreground": {},
    "two_scales": {"n_scales_spatial": 2},
    "no_flow": {"no_flow": True},
    "synthesise_first": {"synthesise_first": True},
    "instance_norm": {"norm": "instance"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_fit_changes_every_network_and_logs_every_term(variant: str, tmp_path: Path) -> None:
    module = small_module(small_generator(**VARIANTS[variant]), n_frames_total=8, n_frames_load=8)
    # Weights only: biases before a norm have zero gradient up to rounding.
    weights = {n: p for n, p in module.named_parameters() if n.endswith("weight")}
    before = {name: parameter.clone() for name, parameter in weights.items()}
    fit = trainer(tmp_path, epochs=1)
    fit.fit(module, datamodule=RandomClips())
    still = [name for name, p in weights.items() if torch.equal(p, before[name])]
    # With detached histories a coarse scale gets gradients only through its features.
    unused = ("scales.0.flow_out", "scales.0.weight_out", "scales.0.image_out")
    unused += ("scales.0.foreground_out",)
    if variant == "two_scales":
        still = [name for name in still if not any(part in name for part in unused)]
    assert not still
    expected = {"G_GAN", "G_GAN_Feat", "G_Warp", "D_real", "D_fake"}
    expected |= {f"{n}{s}" for n in ("G_T_GAN", "D_T_real", "D_T_fake") for s in (0, 1)}
    expected |= {"lr_generator", "lr_discriminators", "n_frames", "generator", "discriminators"}
    if variant != "no_flow":
        expected |= {"F_Flow", "F_Warp"}
    if variant == "synthesise_first":
        expected |= {"W"}
    logged = fit.callback_metrics
    assert {f"train/{name}" for name in expected} <= logged.keys()
    assert {"val/l1", "val/psnr"} <= logged.keys()
    assert all(torch.isfinite(value) for value in logged.values())


def test_a_chunk_is_one_step_to_the_trainer_though_two_optimizers_take_it(tmp_path: Path) -> None:
    fit = trainer(tmp_path, epochs=1, limit_train_batches=1)
    fit.fit(small_module(n_frames_total=6, n_frames_load=2), datamodule=RandomClips())
    assert fit.global_step == 3
    for optimizer in fit.optimizers:
        assert max(int(state["step"]) for state in optimizer.state.values()) == 3


def test_clips_and_learning_rate_follow_their_schedules(tmp_path: Path) -> None:
    data = RandomClips(longest=9)
    rates = []

    class Recorder(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            rates.append([o.param_groups[0]["lr"] for o in trainer.optimizers])

    module = small_module(
        n_frames_total=2, n_frames_load=1, n_epochs_step=1, n_epochs=1, n_epochs_decay=2
    )
    trainer(tmp_path, epochs=4, callbacks=[Recorder()]).fit(module, datamodule=data)
    assert data.lengths_served == [4, 6, 9, 9]  # 2 given frames and 2, 4, 8 -> 7, 7 generated
    expected = [2e-4, 2e-4, 1e-4, 0.0]
    assert rates == [pytest.approx([rate, rate]) for rate in expected]


def test_two_time_scales_change_rates_and_betas() -> None:
    optimizers, _ = small_module(ttur=True).configure_optimizers()
    generator, discriminators = (optimizer.param_groups[0] for optimizer in optimizers)
    assert (generator["lr"], generator["betas"]) == (1e-4, (0.0, 0.9))
    assert (discriminators["lr"], discriminators["betas"]) == (4e-4, (0.0, 0.9))


def test_resuming_goes_on_with_the_grown_clips_and_the_same_weights(tmp_path: Path) -> None:
    settings = {"n_frames_total": 2, "n_frames_load": 2, "n_epochs_step": 1}
    straight, resumed = small_module(**settings), small_module(**settings)
    whole = RandomClips()
    trainer(tmp_path, epochs=3).fit(straight, datamodule=whole)

    first = trainer(tmp_path, epochs=2)
    first.fit(small_module(**settings), datamodule=RandomClips())
    first.save_checkpoint(tmp_path / "half.ckpt")
    second = RandomClips()
    trainer(tmp_path, epochs=3).fit(
        resumed, datamodule=second, ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    assert whole.lengths_served == [4, 6, 10]
    assert second.lengths_served[-1] == 10
    for name, parameter in straight.named_parameters():
        torch.testing.assert_close(dict(resumed.named_parameters())[name], parameter, msg=name)


def test_growing_clips_need_fresh_loaders(tmp_path: Path) -> None:
    module = small_module(n_epochs_step=1)
    fit = trainer(tmp_path, epochs=3, reload_dataloaders_every_n_epochs=0)
    with pytest.raises(ConfigError, match="reload_dataloaders_every_n_epochs=0"):
        fit.fit(module, datamodule=RandomClips())


class CodedFlow:
    """A teacher whose flow from frame t to t - gap is 100 * gap + t everywhere."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(
        self, frames: Tensor, exact: Tensor | None, targets: Sequence[int], gap: int
    ) -> tuple[Tensor, Tensor]:
        self.asked += [(t, gap) for t in targets]
        code = torch.tensor([100.0 * gap + t for t in targets]).view(1, -1, 1, 1, 1)
        shape = (len(frames), len(targets), 1, *frames.shape[-2:])
        return code.expand(-1, -1, 2, *shape[-2:]).repeat(len(frames), 1, 1, 1, 1), torch.ones(
            shape
        )


def test_temporal_discriminators_get_the_flow_between_their_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = CodedFlow()
    module: Vid2Vid = small_module(flow_teacher=teacher, n_frames_total=9, n_frames_load=3)
    seen: list[tuple[int, list[list[float]]]] = []
    judge = module.objective.temporal_terms

    def recorded(scale: int, real: Tensor, fake: Tensor, flow: Tensor) -> dict[str, Tensor]:
        seen.append((scale, flow[:, :, 0, 0, 0].tolist()))
        return judge(scale, real, fake, flow)

    monkeypatch.setattr(module.objective, "temporal_terms", recorded)
    trainer(tmp_path, epochs=1, limit_train_batches=1).fit(module, datamodule=RandomClips())
    expected = []
    for stop in (3, 6, 9):
        for scale, gap in ((0, 1), (1, 3)):
            groups = temporal_groups(stop - 3, stop, scale, 3)
            codes = [[100.0 * gap + t + 2 for t in group[1:]] for group in groups]
            if codes:
                expected.append((scale, codes))
    assert seen == expected
    assert len(teacher.asked) == len(set(teacher.asked))  # no pair of frames twice


def test_ground_truth_flow_reaches_the_teacher(tmp_path: Path) -> None:
    module = small_module(flow_teacher=GroundTruthFlow())
    trainer(tmp_path, epochs=1, limit_train_batches=1).fit(
        module, datamodule=RandomClips(flow=True)
    )
    with pytest.raises(DataError, match="carry no optical flow"):
        trainer(tmp_path, epochs=1).fit(module, datamodule=RandomClips(flow=False))


def test_validation_paints_only_the_first_frame_without_warping(tmp_path: Path) -> None:
    module = small_module(small_generator(synthesise_first=True))
    batch = random_clips(1, 6)
    generated = []
    module.generator.register_forward_hook(lambda *args: generated.append(args[-1]))
    validation = trainer(tmp_path, epochs=1)
    loader = DataLoader([batch], batch_size=1, collate_fn=collate)  # type: ignore[arg-type]
    validation.validate(module, dataloaders=loader, verbose=False)
    (video,) = generated
    assert torch.equal(video.fake_BN3HW[:, 0], video.raw_BN3HW[:, 0])
    assert not torch.equal(video.fake_BN3HW[:, 1], video.raw_BN3HW[:, 1])


def test_labels_without_frames_are_a_data_error() -> None:
    batch = random_clips(1, 6)
    batch.frames_BT3HW = None
    with pytest.raises(DataError, match="no RGB frames"):
        small_module().training_step(batch, 0)


def test_clips_of_given_frames_only_are_a_data_error() -> None:
    with pytest.raises(DataError, match="2 frames, of which the first n_frames_G-1=2 are given"):
        small_module().training_step(random_clips(1, 2), 0)
