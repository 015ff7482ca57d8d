"""Small sets for the tests of this folder."""

import numpy as np

from hvp.artifacts.predictions import PredictedClip, PredictionHeader
from hvp.artifacts.videos import TranslatedVideo, VideoHeader
from hvp.clips import ClipId
from hvp.labels import CITYSCAPES

SIZE = (12, 15)
NAMES = ("2011_09_26/drive 5", "2011_09_26_drive_5", "straße:1", "a/b/c")


def prediction_header(**changes) -> PredictionHeader:
    settings = {
        "dataset": "synthetic", "dataset_digest": "d1", "label_space": CITYSCAPES, "size": SIZE,
        "frame_step": 2, "checkpoint_digest": "c1",
        "sampling": {"skip": "latest", "samples": 3}, "seed": 7,
    }  # fmt: skip
    return PredictionHeader(**{**settings, **changes})


def predicted_clips() -> list[PredictedClip]:
    return [
        PredictedClip(ClipId(name, 5 * n, 2), context=2, horizon=4 + n, samples=3)
        for n, name in enumerate(NAMES)
    ]


def samples(clip: PredictedClip, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Label maps (S, T, H, W) that differ between clips, samples and frames."""
    rng = np.random.default_rng([clip.clip.first, clip.horizon])
    maps = rng.integers(0, 19, (clip.samples, clip.length, *size), dtype=np.uint8)
    maps[:, : clip.context] = maps[0, : clip.context]
    return maps


def video_header(**changes) -> VideoHeader:
    settings = {
        "predictions": "structure-synthetic:v3", "checkpoint_digest": "c2",
        "dataset": "synthetic", "settings_digest": "s1", "size": SIZE, "fps": 10.0, "seed": 7,
    }  # fmt: skip
    return VideoHeader(**{**settings, **changes})


def videos() -> list[TranslatedVideo]:
    listed = []
    for n, name in enumerate(NAMES[:2]):
        span = {"clip": ClipId(name, 5 * n, 2), "context": 2}
        listed += [TranslatedVideo(**span, horizon=4, kind="sample", sample=s) for s in range(2)]
        listed += [TranslatedVideo(**span, horizon=2, kind="oracle", sample=0)]
    return listed


def frames(video: TranslatedVideo, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Noise (T, H, W, 3): the hardest picture for a video codec."""
    rng = np.random.default_rng([video.clip.first, video.horizon, video.sample])
    return rng.integers(0, 256, (video.length, *size, 3), dtype=np.uint8)
