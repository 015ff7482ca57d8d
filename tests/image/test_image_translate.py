"""Streaming translation of label maps to RGB."""

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from hvp.errors import DataError
from hvp.image.vid2vid.sequence import denormalise, normalise, one_hot
from hvp.image.vid2vid.translate import translate
from tests.image.small import N_CLASSES, random_frames, random_labels, small_generator


def n_tensors_alive() -> int:
    gc.collect()
    return sum(isinstance(thing, Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("n_scales", [1, 2])
@pytest.mark.parametrize("synthesise_first", [False, True])
def test_stream_equals_the_sequence_model(n_scales: int, synthesise_first: bool) -> None:
    generator = small_generator(n_scales_spatial=n_scales, synthesise_first=synthesise_first)
    labels, frames = random_labels(3, 7), random_frames(3, 3)
    # One context frame more than needed: only the last K-1 count.
    stream = list(translate(generator, labels[:, 3:].unbind(1), labels[:, :3], frames))
    assert len(stream) == 4
    assert stream[0].dtype == torch.uint8

    hot = one_hot(labels[:, 1:], N_CLASSES, torch.float32)
    start = generator.start(normalise(frames[:, 1:], torch.float32))
    with torch.no_grad():
        whole = generator.eval()(hot, start, n_frames_bp=1, n_raw_only=int(synthesise_first))
    assert torch.equal(torch.stack(stream, dim=1), denormalise(whole.fake_BN3HW))


def test_samples_do_not_influence_each_other() -> None:
    generator = small_generator()
    labels, frames = random_labels(2, 5), random_frames(2, 2)
    both = torch.stack(list(translate(generator, labels[:, 2:].unbind(1), labels[:, :2], frames)))
    labels, frames = labels[1:], frames[1:]
    alone = torch.stack(list(translate(generator, labels[:, 2:].unbind(1), labels[:, :2], frames)))
    difference = (both[:, 1:].int() - alone.int()).abs().max()
    assert difference <= 1  # rounding only


def test_translation_is_lazy_and_endless() -> None:
    generator = small_generator()
    consumed = 0

    def endless() -> Iterator[Tensor]:
        nonlocal consumed
        while True:
            consumed += 1
            yield random_labels(1, 1, seed=consumed)[:, 0]

    video = translate(generator, endless(), random_labels(1, 2), random_frames(1, 2))
    for _ in range(5):
        next(video)
    assert consumed == 5
    before = n_tensors_alive()
    for _ in range(20):
        next(video)
    assert n_tensors_alive() == before


def test_too_little_context_is_a_clear_error() -> None:
    video = translate(small_generator(), [], random_labels(1, 1), random_frames(1, 1))
    with pytest.raises(DataError, match="1 context frames, but n_frames_G=3 needs 2"):
        next(video)
