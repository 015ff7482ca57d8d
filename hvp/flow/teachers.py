"""Optical flow teachers for training the image generator: DIS, RAFT, ground truth.

The generator learns its flow from a frozen teacher, and the temporal discriminators see the
teacher's flow between frames `gap` steps apart. The paper uses FlowNet2; here the teacher is
OpenCV's DIS (no weights), torchvision's RAFT, or the ground-truth flow of a synthetic world.

Shapes: B batch, T time, N target frames, H W size. Flow is backward, in pixels, x then y.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow import (
    Raft_Large_Weights,
    Raft_Small_Weights,
    raft_large,
    raft_small,
)

from hvp.errors import ConfigError, DataError
from hvp.flow.warp import confidence, warp
from hvp.pretrained import load_frozen_weights, load_pretrained


class FlowTeacher(Protocol):
    """Optical flow teacher: backward flow between frames of a clip, with a confidence mask."""

    needs_exact_flow: bool
    """Whether clips must have ground-truth flow."""

    def __call__(
        self,
        frames_BT3HW: Tensor,
        exact_flow_BT2HW: Tensor | None,
        targets: Sequence[int],
        gap: int,
    ) -> tuple[Tensor, Tensor]:
        """Backward flow from frame t to frame t - gap, for every t of `targets`.

        Args:
            frames_BT3HW: real RGB frames in [-1, 1].
            exact_flow_BT2HW: ground-truth flow from frame t to t-1, where the data has it.
            targets: frame indices t >= gap.
            gap: distance of the two frames, in frames of the clip.

        Returns:
            Flow (B, N, 2, H, W) in pixels, and confidence mask (B, N, 1, H, W), 1.0 or 0.0;
            without gradient, in the frames' dtype, on their device.
        """
        ...


class _TwoFrameTeacher:
    """Base of teachers that estimate flow from two frames; frame pairs are batched."""

    needs_exact_flow = False

    def __init__(self, confidence_threshold: float) -> None:
        self.confidence_threshold = confidence_threshold

    def estimate(self, current_M3HW: Tensor, previous_M3HW: Tensor) -> Tensor:
        """Backward flow (M, 2, H, W) of M pairs of frames in [-1, 1]."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(
        self,
        frames_BT3HW: Tensor,
        exact_flow_BT2HW: Tensor | None,
        targets: Sequence[int],
        gap: int,
    ) -> tuple[Tensor, Tensor]:
        """See `FlowTeacher`."""
        current = frames_BT3HW[:, list(targets)].flatten(0, 1)
        previous = frames_BT3HW[:, [t - gap for t in targets]].flatten(0, 1)
        flow = self.estimate(current, previous)
        trusted = confidence(current, previous, flow, self.confidence_threshold)
        batch_and_time = (frames_BT3HW.shape[0], len(targets))
        return flow.unflatten(0, batch_and_time), trusted.unflatten(0, batch_and_time)


class DISFlow(_TwoFrameTeacher):
    """Dense inverse search (Kroeger et al. 2016) by OpenCV: on the CPU, without weights.

    Args:
        preset: `ultrafast`, `fast` or `medium`; slower is finer.
        confidence_threshold: largest squared warping error, summed over channels, to trust.

    Raises:
        ConfigError: unknown preset.
    """

    _PRESETS = {
        "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
        "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
        "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    }

    def __init__(self, preset: str = "fast", confidence_threshold: float = 0.02) -> None:
        super().__init__(confidence_threshold)
        if preset not in self._PRESETS:
            raise ConfigError(
                f"flow.preset={preset}: unknown; choose one of {', '.join(self._PRESETS)}"
            )
        self.preset = preset
        self._search: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_search": None}  # OpenCV objects cannot be pickled

    def estimate(self, current_M3HW: Tensor, previous_M3HW: Tensor) -> Tensor:
        """Backward flow (M, 2, H, W) of M pairs of frames in [-1, 1]."""
        if self._search is None:
            self._search = cv2.DISOpticalFlow.create(self._PRESETS[self.preset])
        flows = [
            self._search.calc(current, previous, None)
            for current, previous in zip(
                _to_gray(current_M3HW), _to_gray(previous_M3HW), strict=True
            )
        ]
        flow_MHW2 = torch.from_numpy(np.stack(flows)).to(current_M3HW)
        return flow_MHW2.permute(0, 3, 1, 2).contiguous()


def _to_gray(images_M3HW: Tensor) -> np.ndarray:
    """RGB in [-1, 1] to grayscale (M, H, W) uint8, luma of ITU-R BT.601."""
    weights_3 = images_M3HW.new_tensor([0.299, 0.587, 0.114])
    luma_MHW = torch.einsum("mchw,c->mhw", images_M3HW, weights_3)
    grey: np.ndarray = luma_MHW.add(1).mul(127.5).round().clamp(0, 255).byte().cpu().numpy()
    return grey


class RAFTFlow(_TwoFrameTeacher):
    """RAFT (Teed & Deng 2020) by torchvision, frozen, on the frames' device.

    RAFT correlates features at 1/8 size over four levels: it needs sides of at least 128 pixels
    that are multiples of 8. Smaller frames are upsampled (64x64 to 128x128) and the flow is scaled
    back. Deliberately no nn.Module: the frozen network stays out of checkpoints.

    Args:
        weights: path of torchvision's state dict for that size, or `download`.
        size: `small` or `large`.
        n_updates: refinement iterations.
        confidence_threshold: largest squared warping error, summed over channels, to trust.

    Raises:
        ConfigError: unknown size, or the weights cannot be loaded.
    """

    _MULTIPLE, _SMALLEST_SIDE = 8, 128
    _SIZES: dict[str, tuple[Any, Any]] = {
        "small": (raft_small, Raft_Small_Weights.DEFAULT),
        "large": (raft_large, Raft_Large_Weights.DEFAULT),
    }

    def __init__(
        self,
        weights: str,
        size: str = "large",
        n_updates: int = 12,
        confidence_threshold: float = 0.02,
    ) -> None:
        super().__init__(confidence_threshold)
        if size not in self._SIZES:
            raise ConfigError(f"flow.size={size}: unknown; choose one of {', '.join(self._SIZES)}")
        build, published = self._SIZES[size]
        state = load_pretrained(weights, published, "flow.weights")
        self._network: nn.Module = build(weights=None)
        load_frozen_weights(self._network, state, weights, "flow.weights")
        self.n_updates = n_updates

    def estimate(self, current_M3HW: Tensor, previous_M3HW: Tensor) -> Tensor:
        """Backward flow (M, 2, H, W) of M pairs of frames in [-1, 1]."""
        height, width = current_M3HW.shape[-2:]
        enlarge = max(1.0, self._SMALLEST_SIDE / min(height, width))
        size = [
            -int(-side * enlarge // self._MULTIPLE) * self._MULTIPLE for side in (height, width)
        ]

        def resize(images: Tensor) -> Tensor:
            return F.interpolate(images.float(), size, mode="bilinear", align_corners=False)

        self._network.to(current_M3HW.device)
        flow = self._network(
            resize(current_M3HW), resize(previous_M3HW), num_flow_updates=self.n_updates
        )[-1]
        flow = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
        scale = flow.new_tensor([width / size[1], height / size[0]]).view(2, 1, 1)
        return (flow * scale).to(current_M3HW)


class GroundTruthFlow:
    """Ground-truth flow of the clip; over several frames, composed along the motion.

    Args:
        confidence_threshold: largest squared warping error, summed over channels, to trust.
    """

    needs_exact_flow = True

    def __init__(self, confidence_threshold: float = 0.02) -> None:
        self.confidence_threshold = confidence_threshold

    @torch.no_grad()
    def __call__(
        self,
        frames_BT3HW: Tensor,
        exact_flow_BT2HW: Tensor | None,
        targets: Sequence[int],
        gap: int,
    ) -> tuple[Tensor, Tensor]:
        """See `FlowTeacher`.

        Raises:
            DataError: the clip has no flow.
        """
        if exact_flow_BT2HW is None:
            raise DataError(
                "flow=ground_truth: these clips carry no optical flow; expected a dataset that "
                "renders it (dataset=synthetic), or use flow=dis"
            )
        exact = exact_flow_BT2HW.to(frames_BT3HW)
        batch_and_time = (frames_BT3HW.shape[0], len(targets))
        total = exact[:, list(targets)].flatten(0, 1)
        for step in range(1, gap):
            before = exact[:, [t - step for t in targets]].flatten(0, 1)
            total = total + warp(before, total)
        current = frames_BT3HW[:, list(targets)].flatten(0, 1)
        previous = frames_BT3HW[:, [t - gap for t in targets]].flatten(0, 1)
        trusted = confidence(current, previous, total, self.confidence_threshold)
        return total.unflatten(0, batch_and_time), trusted.unflatten(0, batch_and_time)
