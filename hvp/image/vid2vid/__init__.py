"""vid2vid (Wang et al. 2018): label maps and previous frames to the next frame.

These are the public import paths: configs and checkpoints contain them; files may move.
"""

from hvp.image.vid2vid.discriminators import ImageDiscriminator, TemporalDiscriminators
from hvp.image.vid2vid.losses import VGG19Perceptual
from hvp.image.vid2vid.module import Vid2Vid
from hvp.image.vid2vid.sequence import SequenceGenerator

__all__ = [
    "ImageDiscriminator", "SequenceGenerator", "TemporalDiscriminators", "VGG19Perceptual",
    "Vid2Vid",
]  # fmt: skip
