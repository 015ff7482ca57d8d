"""Checksums and safe loading of PyTorch files, against bit flips, bombs and code."""

import os
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from hvp.torch_files import UnreadableFile, add_checksum, corruption, load_torch_file


def saved(path: Path, seed: int, checksum: bool) -> dict[str, Any]:
    content = {
        "state_dict": {"w": torch.randn(5, 7, generator=torch.Generator().manual_seed(seed))},
        "epoch": seed,
    }
    torch.save(content, path)
    if checksum:
        add_checksum(path)
    return content


def same(found: Any, content: dict[str, Any]) -> bool:
    return (
        isinstance(found, dict)
        and found.keys() == content.keys()
        and found["epoch"] == content["epoch"]
        and found["state_dict"].keys() == content["state_dict"].keys()
        and torch.equal(found["state_dict"]["w"], content["state_dict"]["w"])
    )


def structure_bytes(path: Path) -> list[int]:
    """Offsets of local headers, central directory and end record."""
    data = path.read_bytes()
    offsets: list[int] = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name, extra = struct.unpack_from("<HH", data, member.header_offset + 26)
            # Of torch's padding (up to 63 bytes of extra field) the first four are its header.
            offsets += range(member.header_offset, member.header_offset + 30 + name + min(extra, 4))
        offsets += range(archive.start_dir, len(data))
    return offsets


@pytest.mark.parametrize("checksum", [True, False])
def test_no_flipped_bit_gives_another_state_or_ends_the_check(
    checksum: bool, tmp_path: Path
) -> None:
    """Every bit of the zip's structure, and random ones of the rest; also of older files."""
    path, damaged = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    content = saved(path, 3, checksum)
    data = path.read_bytes()
    draw = random.Random(8)
    places = structure_bytes(path)
    if not checksum:  # each takes a whole load
        places = draw.sample(places, 60)
    bits = [8 * place + bit for place in places for bit in range(8)]
    bits += [draw.randrange(8 * len(data)) for _ in range(200)]
    damaged.write_bytes(data)
    with damaged.open("r+b", buffering=0) as file:
        for bit in bits:
            byte = data[bit // 8]
            os.pwrite(file.fileno(), bytes([byte ^ (1 << bit % 8)]), bit // 8)
            if corruption(damaged) is None:
                assert same(load_torch_file(damaged), content), bit
                assert not checksum or bit // 8 >= len(data) - 77, bit  # the mark of the checksum
            elif bit % 64 == 0:
                with pytest.raises(UnreadableFile):
                    load_torch_file(damaged)
            os.pwrite(file.fileno(), bytes([byte]), bit // 8)


def test_truncated_and_extended_files_are_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    saved(path, 1, checksum=True)
    assert corruption(path) is None
    data = path.read_bytes()
    for length in random.Random(2).sample(range(len(data) - 76), 20):
        path.write_bytes(data[:length])
        assert corruption(path) is not None
    path.write_bytes(os.urandom(5000))
    assert corruption(path) is not None
    assert corruption(tmp_path / "none.ckpt") is not None


def test_a_file_with_checksum_is_what_torch_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    content = saved(path, 5, checksum=True)
    assert same(torch.load(path, weights_only=True), content)
    assert same(torch.load(path, weights_only=True, mmap=True), content)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


class _Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_a_file_does_not_run(legacy: bool, tmp_path: Path) -> None:
    path, proof = tmp_path / "evil.ckpt", tmp_path / "ran"
    torch.save({"state_dict": _Runs(proof)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnreadableFile, match="system"):
        load_torch_file(path)
    path.write_bytes(pickle.dumps(_Runs(proof)))
    with pytest.raises(UnreadableFile):
        load_torch_file(path)
    assert not proof.exists()


def test_a_zip_bomb_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    path, bomb = tmp_path / "a.ckpt", tmp_path / "bomb.ckpt"
    saved(path, 0, checksum=False)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as out:
        for member in archive.namelist():
            content = archive.read(member)
            out.writestr(member, bytes(2**24) if member.endswith("/data/0") else content)
    assert bomb.stat().st_size < 2**16
    with pytest.raises(UnreadableFile, match="compressed"):
        load_torch_file(bomb)
