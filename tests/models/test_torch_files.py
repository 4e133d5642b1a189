"""Torch's files: told apart, loaded, filled; and refused, with nothing in them run."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock._models.torch_files import EXPORT, MODULE, SCRIPT, load_file
from penstock.errors import ModelError, UsageError

torch = pytest.importorskip("torch")


class Evil:
    """A pickle of this makes a folder when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_each_kind_is_known_by_its_content(nets: Any, tmp_path: Path) -> None:
    net, x = nets.make(), torch.rand(2, 3, 32, 32)
    expected = net(x)
    cases = [
        (nets.save_script(net, tmp_path / "a.pt2"), None, SCRIPT),
        (nets.save_export(net, tmp_path / "b.pt"), None, EXPORT),
        (nets.save_state(net, tmp_path / "c.ts"), "torch_nets:make", MODULE),
    ]
    for path, factory, wanted in cases:
        module, kind = load_file(path, factory)
        assert kind == wanted
        module = module.module() if kind == EXPORT else module.eval()
        assert torch.allclose(module(x), expected, atol=1e-6)


def test_a_state_dict_of_old_torch_fills_what_a_function_makes(nets: Any, tmp_path: Path) -> None:
    net = nets.SmallNet().eval()
    torch.save(net.state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    module, _ = load_file(tmp_path / "w.pth", nets.make)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), net.parameters(), strict=True))


def test_a_renamed_key_is_named_with_both_paths_and_numbers(nets: Any, tmp_path: Path) -> None:
    state = nets.make().state_dict()
    state["classifier.weight"] = state.pop("head.weight")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError) as caught:
        load_file(tmp_path / "w.pt", "torch_nets:make")
    said = str(caught.value)
    assert "1 of its 11 keys are missing in the file (head.weight)" in said
    assert "1 of the file are unknown to it (classifier.weight)" in said
    assert str(tmp_path / "w.pt") in said
    assert nets.__file__ in said


def test_other_shapes_are_named(nets: Any, tmp_path: Path) -> None:
    path = nets.save_state(nets.make_wide(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"\d+ have other shapes \(size mismatch for first.weight.*and 4 more"):
        load_file(path, "torch_nets:make")


def test_a_state_dict_without_a_factory_says_what_to_do(nets: Any, tmp_path: Path) -> None:
    path = nets.save_state(nets.make(), tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"w\.pt' is a state dict \(11 entries\).*--factory pkg.module:make"):
        load_file(path, None)


def test_a_program_needs_no_factory(nets: Any, tmp_path: Path) -> None:
    path = nets.save_script(nets.make(), tmp_path / "s.pt")
    with pytest.raises(UsageError, match=r"holds a whole program \(script\).*Leave the factory out"):
        load_file(path, "torch_nets:make")


@pytest.mark.parametrize(
    ("factory", "error", "said"),
    [
        ("no_such_module:make", UsageError, "'no_such_module' could not be imported"),
        ("torch_nets:nothing", UsageError, r"torch_nets.py has no function 'nothing'"),
        ("torch_nets:make_broken", ModelError, "make_broken' failed: RuntimeError: no net today"),
        ("torch_nets:make_number", UsageError, "made a builtins.int, and no nn.Module"),
    ],
)
def test_a_factory_that_makes_nothing(
    nets: Any, tmp_path: Path, factory: str, error: type[Exception], said: str
) -> None:
    path = nets.save_state(nets.make(), tmp_path / "w.pt")
    with pytest.raises(error, match=said):
        load_file(path, factory)


def test_a_pickle_with_code_is_refused_and_not_run(nets: Any, tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "w.pt"
    state = {**nets.make().state_dict(), "evil": Evil(mark)}
    writers: list[Callable[[], Any]] = [
        lambda: torch.save(state, path),
        lambda: torch.save(state, path, _use_new_zipfile_serialization=False),
        lambda: path.write_bytes(pickle.dumps(Evil(mark), protocol=2)),
    ]
    for write in writers:
        write()
        with pytest.raises(ModelError, match=r"w\.pt' holds code \(posix.mkdir.*not loaded.*module.state_dict\(\)"):
            load_file(path, "torch_nets:make")
        assert not mark.exists()


def test_a_pickled_module_is_code_too(nets: Any, tmp_path: Path) -> None:
    torch.save(nets.make(), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match=r"holds code \(torch_nets.SmallNet\)"):
        load_file(tmp_path / "whole.pt", None)


def replaced(path: Path, part: str, data: bytes) -> None:
    """Give the entry of an archive whose name holds `part` other content."""
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    (name,) = [name for name in entries if part in name]
    with zipfile.ZipFile(path, "w") as archive:
        for other, content in (entries | {name: data}).items():
            archive.writestr(other, content)


def test_code_in_an_exported_program_is_refused_and_not_run(nets: Any, tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", nets.save_export(nets.make(), tmp_path / "e.pt2")
    torch.save(Evil(mark), tmp_path / "evil.pt")
    replaced(path, "sample_inputs/model.pt", (tmp_path / "evil.pt").read_bytes())
    with pytest.raises(ModelError, match=r"e\.pt2' holds code \(posix.mkdir"):
        load_file(path, None)
    assert not mark.exists()


@pytest.mark.parametrize("entry", ["data/aotinductor/model/lib.so", "data/constants/opaque_obj_0"])
def test_entries_that_run_are_refused(nets: Any, tmp_path: Path, entry: str) -> None:
    path = nets.save_export(nets.make(), tmp_path / "e.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"e/{entry}", b"x")
    with pytest.raises(ModelError, match="1 entries that run code"):
        load_file(path, None)


def test_the_environment_is_as_before(nets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    load_file(nets.save_export(nets.make(), tmp_path / "e.pt2"), None)
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"<!doctype html>", "web page"),
        (b"this is a text\n" * 9, "could not be loaded by torch"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "w.pt").write_bytes(data)
    with pytest.raises(ModelError, match=said) as caught:
        load_file(tmp_path / "w.pt", "torch_nets:make")
    assert "w.pt" in str(caught.value)


def test_half_a_file_and_another_archive(nets: Any, tmp_path: Path) -> None:
    path = nets.save_state(nets.make(), tmp_path / "w.pt")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ModelError, match="could not be loaded by torch"):
        load_file(path, "torch_nets:make")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"x")
    with pytest.raises(ModelError, match="an archive of 1 files, and neither TorchScript"):
        load_file(path, "torch_nets:make")


def test_a_checkpoint_is_no_state_dict(nets: Any, tmp_path: Path) -> None:
    torch.save({"epoch": 3, "weights": nets.make().state_dict()}, tmp_path / "c.pt")
    with pytest.raises(ModelError, match=r"holds a dict of epoch, weights, and no state dict.*Save that alone"):
        load_file(tmp_path / "c.pt", "torch_nets:make")
    torch.save([1], tmp_path / "c.pt")
    with pytest.raises(ModelError, match="holds list, and no state dict"):
        load_file(tmp_path / "c.pt", "torch_nets:make")
