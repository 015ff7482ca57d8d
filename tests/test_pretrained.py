"""Download of pretrained weights, from `file:` URLs."""

import hashlib
from pathlib import Path

import pytest
import torch

from hvp.errors import ConfigError
from hvp.pretrained import PublishedFile


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedFile:
    source = tmp_path / "web" / "weights.pt"
    source.parent.mkdir()
    source.write_bytes(b"weights")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "cache"))
    return PublishedFile(f"{source.as_uri()}?dl=1", hashlib.sha256(b"weights").hexdigest())


def source_of(published: PublishedFile) -> Path:
    return Path(published.url.removeprefix("file://").removesuffix("?dl=1"))


@pytest.fixture
def plain(published: PublishedFile) -> PublishedFile:
    """The same file; a `file:` address has no query."""
    return PublishedFile(published.url.removesuffix("?dl=1"), published.sha256)


def test_file_is_fetched_once_and_checked(plain: PublishedFile, tmp_path: Path) -> None:
    path = plain.fetch("weights")
    assert path == tmp_path / "cache/checkpoints/weights.pt"
    assert path.read_bytes() == b"weights"
    source_of(plain).unlink()
    assert plain.fetch("weights") == path


def test_file_with_another_digest_never_gets_its_name(plain: PublishedFile, tmp_path: Path) -> None:
    source_of(plain).write_bytes(b"something else")
    with pytest.raises(ConfigError, match=r"weights=download: could not fetch.*invalid hash value"):
        plain.fetch("weights")
    assert list((tmp_path / "cache/checkpoints").iterdir()) == []


def test_file_that_changed_in_the_cache_is_refused(plain: PublishedFile) -> None:
    plain.fetch("weights").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=f"expected {plain.sha256}; delete it"):
        plain.fetch("weights")


def test_unreachable_file_says_the_command_that_gets_it(published: PublishedFile) -> None:
    source_of(published).unlink()
    with pytest.raises(ConfigError, match=r"curl -L -o weights.pt 'file:.*dl=1' && echo '.*sum -c"):
        published.fetch("weights")
