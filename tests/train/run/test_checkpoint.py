"""Checkpoints: round trip, damage of every file in four ways, pruning, the mean, the lock."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from train import files
from train.errors import UserError
from train.model.optim import build_optimizer
from train.processes import random_state
from train.run import checkpoint, mean
from train.run.run import Progress
from train.settings.sections import OptimSection


def make(seed: int = 0):
    """Return a model that has taken two Adam steps, and its optimiser."""
    torch.manual_seed(seed)
    model = VanillaForConditionalGeneration(VanillaConfig.tiny())
    optimizer = build_optimizer(model, OptimSection())
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.01
    ids = torch.randint(7, 97, (2, 5))
    for _ in range(2):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def snapshot(step, model, optimizer, scheduled=True):
    """Return a snapshot with this process's random state."""
    state = checkpoint.State(Progress(step=step), 1, {}, scheduled)
    return checkpoint.Snapshot.of(state, model, checkpoint.moments_of(model, optimizer), [random_state.random_state()])


def save(run_dir, step, model, optimizer, scheduled=True):
    """Write a checkpoint."""
    return snapshot(step, model, optimizer, scheduled).write(run_dir)


def test_round_trip_is_bitwise_for_weights_moments_and_random_numbers(tmp_path):
    model, optimizer = make()
    folder = save(tmp_path, 2, model, optimizer)
    expected = torch.rand(3)
    other, other_optimizer = make(seed=1)
    checkpoint.load(folder, other, other_optimizer)
    random_state.restore_random_state(checkpoint.read_random_state(folder, 0))
    assert torch.equal(torch.rand(3), expected)
    for (name, one), two in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two), name
        for quantity, value in optimizer.state[one].items():
            assert torch.equal(value, other_optimizer.state[two][quantity]), (name, quantity)


def test_random_state_covers_python_and_numpy_with_a_pending_gauss():
    import random

    import numpy as np

    random.gauss(0, 1)
    np.random.randn(1)
    saved = random_state.random_state()
    expected = [random.gauss(0, 1), random.random(), np.random.randn(), np.random.rand()]
    random.seed(5), np.random.seed(5)
    random_state.restore_random_state(saved)
    assert [random.gauss(0, 1), random.random(), np.random.randn(), np.random.rand()] == expected


def test_nothing_on_disk_is_pickled(tmp_path):
    folder = save(tmp_path, 2, *make())
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json", ".py"}


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("harm", [truncate, empty, flip, lambda path: path.unlink()])
def test_any_damage_to_any_file_falls_back_to_the_checkpoint_before(tmp_path, capsys, harm):
    model, optimizer = make()
    older = save(tmp_path, 1, model, optimizer)
    names = [path.name for path in older.iterdir()]
    assert len(names) >= 6
    for name in names:
        newer = save(tmp_path, 2, model, optimizer)
        assert checkpoint.newest(tmp_path) == newer
        harm(newer / name)
        assert checkpoint.newest(tmp_path) == older, name
        # A bit of the manifest may be a bit of another file's digest: then that file is named.
        assert (name if name != files.MANIFEST else newer.name) in capsys.readouterr().err


def test_all_damaged_is_an_error_and_none_at_all_is_none(tmp_path):
    assert checkpoint.newest(tmp_path) is None
    folder = save(tmp_path, 1, *make())
    (folder / "state.json").unlink()
    with pytest.raises(UserError, match=r"no checkpoint is intact.*step-00000001: state.json is missing"):
        checkpoint.newest(tmp_path)


def test_weights_that_are_not_finite_are_neither_written_nor_trusted(tmp_path):
    model, optimizer = make()
    older = save(tmp_path, 1, model, optimizer)
    with torch.no_grad():
        next(iter(model.parameters()))[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"step 2: .* is not finite"):
        save(tmp_path, 2, model, optimizer)
    newer = checkpoint.folder_of(tmp_path, 3)
    with files.staged_folder(newer, manifest=True) as staging:  # one that verifies by its digests, but holds a NaN
        checkpoint.write_model(model, staging)
        for name in ("optimizer.safetensors", "rng-00000.safetensors", "state.json"):
            (staging / name).write_bytes((older / name).read_bytes())
    assert checkpoint.newest(tmp_path) == older


def test_a_failed_write_leaves_the_old_checkpoints_and_nothing_of_the_new(tmp_path, monkeypatch):
    model, optimizer = make()
    older = save(tmp_path, 1, model, optimizer)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match=r"step-00000002: checkpoint not written: .*No space left"):
        save(tmp_path, 2, model, optimizer)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [older.name]
    assert checkpoint.newest(tmp_path) == older


def test_a_checkpoint_that_does_not_read_back_is_an_error(tmp_path, monkeypatch):
    original = files._replace

    def lossy(staging, folder):
        truncate(staging / "optimizer.safetensors")
        original(staging, folder)

    monkeypatch.setattr(files, "_replace", lossy)
    with pytest.raises(OSError, match=r"does not read back: optimizer\.safetensors has \d+ bytes"):
        save(tmp_path, 1, *make())


def test_prune_keeps_the_newest_scheduled_ones_and_drops_forced_ones(tmp_path):
    model, optimizer = make()
    for step, scheduled in ((10, True), (20, True), (25, False), (30, True), (33, False)):
        save(tmp_path, step, model, optimizer, scheduled)
    checkpoint.prune(tmp_path, keep=2)
    assert [path.name[-2:] for path in sorted((tmp_path / "checkpoints").iterdir())] == ["20", "30", "33"]


def test_average_is_the_arithmetic_mean_of_the_last_scheduled_checkpoints(tmp_path):
    weights = []
    for step, scheduled in ((1, True), (2, True), (3, False), (4, True)):
        model, optimizer = make(seed=step)
        folder = save(tmp_path, step, model, optimizer, scheduled)
        weights.append(load_file(folder / "model.safetensors"))
    averaged = load_file(mean.average(tmp_path, 3) / "model.safetensors")
    assert averaged.keys() == weights[0].keys()
    for name, value in averaged.items():
        expected = (weights[0][name] + weights[1][name] + weights[3][name]) / 3  # step 3 was forced by a signal
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-8)
    loaded = VanillaForConditionalGeneration.from_pretrained(tmp_path / "average")
    assert torch.equal(loaded.lm_head.weight, loaded.get_input_embeddings().weight)
    with pytest.raises(
        UserError, match="3 intact checkpoints, the average needs 4; --last 3 takes these; loop.keep_last keeps more"
    ):
        mean.average(tmp_path, 4)


def test_loading_into_another_architecture_names_the_tensor(tmp_path):
    folder = save(tmp_path, 1, *make())
    other = VanillaForConditionalGeneration(VanillaConfig.tiny(num_layers=3))
    with pytest.raises(UserError, match=r"missing tensors .*layers\.2"):
        checkpoint.load_weights(folder, other)
    other = VanillaForConditionalGeneration(VanillaConfig.tiny(d_ff=41))
    with pytest.raises(UserError, match="size mismatch"):
        checkpoint.load_weights(folder, other)


def test_a_second_process_cannot_lock_a_folder(tmp_path):
    code = "import sys; from pathlib import Path; from train import files\nwith files.lock(Path(sys.argv[1])): pass"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with files.lock(tmp_path):
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode != 0
    assert "another process" in second.stderr
    assert subprocess.run(command, check=False).returncode == 0


def test_tidy_finishes_what_a_kill_interrupted(tmp_path):
    (tmp_path / ".staging-best").mkdir()
    (tmp_path / ".staging-recipe.yaml").write_text("half")
    (tmp_path / ".retired-best").mkdir()
    (tmp_path / ".retired-best" / "config.json").write_text("{}")
    files.tidy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert (tmp_path / "best" / "config.json").is_file()


def test_a_replaced_folder_is_never_mixed_with_the_new_one(tmp_path):
    for content in ("old", "new"):
        with files.staged_folder(tmp_path / "best") as staging:
            files.write_json(staging / f"{content}.json", content)
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["new.json"]
    assert json.loads((tmp_path / "best" / "new.json").read_text()) == "new"


def test_a_copy_is_written_as_it_was_while_the_model_trains_on(tmp_path):
    model, optimizer = make()
    now = snapshot(2, model, optimizer)
    direct = now.write(tmp_path / "direct")
    copied = now.copied()
    ids = torch.randint(7, 97, (2, 5))
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    folder = copied.write(tmp_path / "copied")
    names = sorted(path.name for path in direct.iterdir())
    assert names == sorted(path.name for path in folder.iterdir())
    for name in names:
        assert (folder / name).read_bytes() == (direct / name).read_bytes(), name


def test_without_room_for_a_copy_nothing_is_copied(tmp_path, monkeypatch):
    model, optimizer = make()
    state = checkpoint.State(Progress(step=2), 1, {}, scheduled=True)
    weights = sum(tensor.numel() for tensor in model.parameters()) * 4
    for free, fits in ((2 * 3 * weights, False), (2 * 3 * weights + 1000, True)):  # two moments beside the weights
        monkeypatch.setattr(checkpoint.writer, "free_memory", lambda: free)  # noqa: B023
        now = checkpoint.Snapshot.of(state, model, checkpoint.moments_of(model, optimizer))
        assert (now.copied() is not None) == fits


def test_the_error_of_a_write_is_kept_until_it_is_waited_for():
    def full():
        raise OSError(28, "No space left on device")

    done = []
    background = checkpoint.writer.Writer()
    background.start(full, then=lambda: done.append(1))
    background.close()
    assert isinstance(background.error, OSError)
    with pytest.raises(OSError, match="No space left"):
        background.wait()
    background.wait()  # once is enough
    assert done == []
