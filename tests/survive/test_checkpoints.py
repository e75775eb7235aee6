"""Checkpoints: every flipped bit is seen, the one before is taken, and no fault of a disk harms."""

import errno
import io
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rnode_dyn import RunError, RunResult
from rnode_dyn.running.runner import resume
from rnode_dyn.runs import checkpoints
from rnode_dyn.runs.checkpoints import read_checkpoint, write_checkpoint
from rnode_dyn.runs.errors import SaveError
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.take_up import take_up
from tests.survive.scenarios import rows_of
from tests.tiny import same_weights

TINY = {"state_dict": {"weight": torch.arange(6.0)}, "global_step": 3}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.ckpt"
    write_checkpoint(TINY, path)
    return path


def refused(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        read_checkpoint(path)
    except RunError as refusal:
        return str(path) in str(refusal)
    return False


def test_what_is_written_is_read_by_us_and_by_torch(sealed: Path) -> None:
    for read in (read_checkpoint(sealed), torch.load(sealed, weights_only=True)):
        assert torch.equal(read["state_dict"]["weight"], TINY["state_dict"]["weight"])  # type: ignore[index]


@pytest.mark.parametrize("of_a_run", [False, True])
def test_of_500_flipped_bits_all_are_seen(
    of_a_run: bool, sealed: Path, finished: RunResult, tmp_path: Path
) -> None:
    last = RunFolder(finished.folder).last_checkpoint
    data = bytearray((last if of_a_run else sealed).read_bytes())
    chance, seen = random.Random(0), 0
    for _ in range(500):
        bit = chance.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        seen += refused(tmp_path / "flipped.ckpt", bytes(data))
        data[bit // 8] ^= 1 << bit % 8
    assert seen == 500


def test_every_bit_of_the_ends_is_seen(sealed: Path, tmp_path: Path) -> None:
    data = bytearray(sealed.read_bytes())
    places = [*range(40), *range(len(data) - 110, len(data))]
    for place in places:
        for bit in range(8):
            data[place] ^= 1 << bit
            assert refused(tmp_path / "flipped.ckpt", bytes(data)), (place, bit)
            data[place] ^= 1 << bit


def test_all_truncations_are_seen(sealed: Path, tmp_path: Path) -> None:
    data = sealed.read_bytes()
    lengths = {*range(0, len(data), max(1, len(data) // 200)), len(data) - 1}
    assert all(refused(tmp_path / "cut.ckpt", data[:length]) for length in lengths)


def test_a_checkpoint_of_another_hand_is_read_and_checked(sealed: Path, tmp_path: Path) -> None:
    torch.save(TINY, tmp_path / "plain.ckpt")
    assert read_checkpoint(tmp_path / "plain.ckpt")["global_step"] == 3
    data = bytearray((tmp_path / "plain.ckpt").read_bytes())
    where = data.index(TINY["state_dict"]["weight"].numpy().tobytes())  # type: ignore[index]
    data[where] ^= 1
    assert refused(tmp_path / "plain.ckpt", bytes(data))


def crafted(touched: Path) -> list[object]:
    class Trap:
        def __init__(self, call: Callable[..., Any], *words: Any) -> None:
            self.told = call, words

        def __reduce__(self) -> tuple:
            return self.told

    traps = [Trap(os.system, f"touch {touched}"), Trap(Path.touch, touched),
             Trap(exec, f"open({str(touched)!r}, 'w')"), Trap(os.mkdir, str(touched)),
             Trap(shutil.copy, __file__, touched)]  # fmt: skip
    around = (lambda trap: trap, lambda trap: {"state_dict": trap}, lambda trap: [trap],
              lambda trap: {"state_dict": {}, "callbacks": {"x": trap}},
              lambda trap: {"state_dict": {}, "loops": [{"y": (trap,)}]},
              lambda trap: {"state_dict": {}, trap.told[0].__name__: {"z": trap}})  # fmt: skip
    return [wrap(trap) for trap in traps for wrap in around]


def test_no_code_in_any_of_30_crafted_files_is_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    for trap in crafted(touched):
        torch.save(trap, tmp_path / "crafted.ckpt")
        assert refused(tmp_path / "crafted.ckpt", (tmp_path / "crafted.ckpt").read_bytes())
    assert len(crafted(touched)) == 30
    assert not touched.exists()


def test_sealed_code_is_not_run_either(tmp_path: Path) -> None:
    write_checkpoint({"state_dict": {}, "trap": crafted(tmp_path / "touched")[0]}, tmp_path / "x")
    with pytest.raises(RunError, match="something else than weights"):
        read_checkpoint(tmp_path / "x")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("call", ["fsync", "replace", "link"])
@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_write_that_fails_leaves_what_was(
    call: str, fault: int, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    previous, before = sealed.with_name("previous.ckpt"), sealed.read_bytes()

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        if call == "link":  # a file system without links renames
            write_checkpoint({**TINY, "global_step": 4}, sealed, previous)
            assert read_checkpoint(sealed)["global_step"] == 4
            return
        with pytest.raises(SaveError, match=os.strerror(fault)):
            write_checkpoint({**TINY, "global_step": 4}, sealed, previous)
    assert sealed.read_bytes() == before


def test_what_is_read_back_otherwise_is_not_taken(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sealed.read_bytes()
    real = checkpoints.write_part

    def lose(path: Path, data: Any) -> Path:
        part = real(path, data)
        part.write_bytes(part.read_bytes()[:-5])
        return part

    monkeypatch.setattr(checkpoints, "write_part", lose)
    with pytest.raises(SaveError, match="what was read back"):
        write_checkpoint({**TINY, "global_step": 4}, sealed)
    assert sealed.read_bytes() == before


def test_a_folder_that_has_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="No such file"):
        write_checkpoint(TINY, tmp_path / "gone" / "last.ckpt")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("sound", ["previous", "best"])
def test_the_newest_sound_checkpoint_is_taken_with_a_warning(
    sound: str, finished: RunResult, copied: Path
) -> None:
    folder, told = RunFolder(copied), []
    if sound == "previous":
        shutil.copy(folder.last_checkpoint, folder.previous_checkpoint)
    flip(folder.last_checkpoint)
    (folder.checkpoints / ".last.ckpt.77.part").write_bytes(b"left")
    assert take_up(folder, told.append)
    assert "last.ckpt cannot be read" in told[0]
    assert f"goes on from {sound}.ckpt" in told[1]
    assert not (folder.checkpoints / ".last.ckpt.77.part").exists()
    resumed = resume(copied)
    assert same_weights(finished.folder, resumed.folder)
    assert resumed.summary["bits_per_dim"] == finished.summary["bits_per_dim"]


def test_a_damaged_best_is_put_aside_and_told(copied: Path) -> None:
    folder, told = RunFolder(copied), []
    flip(folder.best_checkpoint)
    assert take_up(folder, told.append)
    assert "the best weights are told anew" in told[0]
    assert not folder.best_checkpoint.exists()


@pytest.mark.parametrize("logged", ["", "governor/gap,step\r\n0.5,0\r\n0.1"])
def test_a_run_without_any_checkpoint_begins_anew(
    logged: str, finished: RunResult, copied: Path
) -> None:
    folder = RunFolder(copied)
    shutil.rmtree(folder.checkpoints)
    folder.metrics.write_text(logged)
    resumed = resume(copied)
    assert same_weights(finished.folder, resumed.folder)
    assert rows_of(RunFolder(finished.folder)) == rows_of(folder)


def test_a_run_that_has_lost_its_checkpoints_is_not_begun_anew(copied: Path) -> None:
    shutil.rmtree(RunFolder(copied).checkpoints)
    with pytest.raises(RunError, match=r"has no last\.ckpt to go on from"):
        resume(copied)
    assert rows_of(RunFolder(copied))


def test_sealing_asks_for_an_archive() -> None:
    with pytest.raises(ValueError, match="zip archive"):
        checkpoints.seal(b"no archive")
    file = io.BytesIO()
    torch.save({}, file)
    with pytest.raises(ValueError, match="zip archive"):
        checkpoints.seal(checkpoints.seal(file.getvalue()))
