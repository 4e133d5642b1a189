"""A net made ready, and what identifies it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock._models.torch_net import TorchSource, describe_torch, load_net, source_of, weights_of
from penstock._options import Torch
from penstock.errors import ModelError, UsageError

torch = pytest.importorskip("torch")
Module: Any = torch.nn.Module


def test_a_module_is_shared_in_eval_mode_and_given_back_as_it_was(nets: Any) -> None:
    module = nets.make().train()
    module.norm.eval()
    net = load_net(Torch(module, device="cpu"))
    assert net.module is module
    assert not any(part.training for part in module.modules())
    net.close()
    net.close()
    assert module.training
    assert module.first.training
    assert not module.norm.training


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"channels_last": True}])
def test_a_module_that_is_changed_is_copied(nets: Any, change: dict[str, Any]) -> None:
    module = nets.make()
    before = weights_of(module)
    net = load_net(Torch(module, device="cpu", **change))
    assert net.module is not module
    assert weights_of(module) == before
    assert module.first.weight.is_contiguous()
    assert net.precision == ("bf16" if "dtype" in change else "f32")
    assert net.dtype == (torch.bfloat16 if "dtype" in change else torch.float32)


def test_what_cannot_be_copied_is_refused_with_a_way_out(nets: Any) -> None:
    module = nets.make()
    module.lock = threading.Lock()
    load_net(Torch(module, device="cpu"))
    with pytest.raises(ModelError, match=r"could not be copied and changed \(dtype=.*module.to"):
        load_net(Torch(module, device="cpu", dtype="bfloat16"))


def test_precision_is_never_lowered_unasked(nets: Any) -> None:
    with pytest.raises(UsageError, match=r"has float64 weights.*module.float\(\)"):
        load_net(Torch(nets.make().double(), device="cpu"))


def test_a_device_that_is_not_there_is_refused(nets: Any) -> None:
    count = torch.cuda.device_count()
    with pytest.raises(UsageError, match=f"torch sees {count} CUDA devices"):
        load_net(Torch(nets.make(), device=f"cuda:{count}"))


def test_plain_is_float32_and_itself_where_it_is_so(nets: Any) -> None:
    net = load_net(Torch(nets.make()))
    assert net.plain() is net
    lowered = load_net(Torch(nets.make(), autocast="bfloat16"))
    plain = lowered.plain()
    assert plain.module is lowered.module
    assert (lowered.precision, plain.precision) == ("bf16", "f32")


def test_an_exported_program_runs_as_it_was_exported(nets: Any, tmp_path: Path) -> None:
    free = load_net(Torch(nets.save_export(nets.make(), tmp_path / "free.pt2")))
    assert (free.shape, free.batch_size, free.device, free.name) == ((None, 3, None, None), None, "cpu", "free")
    fixed = load_net(Torch(nets.save_export(nets.make(), tmp_path / "fixed.pt2", batch=4)))
    assert fixed.batch_size == 4
    with pytest.raises(UsageError, match=r"runs as it was exported, on cpu.* channels_last, compile, dtype"):
        load_net(replace(fixed.options, channels_last=True, compile=True, dtype="float16"))


def test_an_exported_program_with_two_inputs_is_refused(tmp_path: Path) -> None:
    class Two(Module):  # type: ignore[misc]
        def forward(self, a: Any, b: Any) -> Any:
            return a + b

    torch.export.save(torch.export.export(Two(), (torch.zeros(2), torch.zeros(2))), tmp_path / "two.pt2")
    with pytest.raises(UsageError, match=r"has 2 inputs \(a, b\)"):
        load_net(Torch(tmp_path / "two.pt2"))


def test_a_factory_has_no_meaning_for_a_module(nets: Any) -> None:
    with pytest.raises(UsageError, match="Leave the factory out"):
        TorchSource(Torch(nets.make(), factory="torch_nets:make"))


def test_the_weights_hash_sees_every_bit_name_and_shape(nets: Any) -> None:
    net = nets.make()
    first = weights_of(net)
    assert first == weights_of(nets.make()) == weights_of(net.to(memory_format=torch.channels_last))
    changes: list[Callable[[Any], Any]] = [
        lambda n: n.head.bias.data.__setitem__(0, n.head.bias[0] + 1e-6),
        lambda n: n.norm.num_batches_tracked.add_(1),
        lambda n: n.register_buffer("grid", torch.zeros(1), persistent=False),
        lambda n: n.bfloat16(),
        lambda n: setattr(n, "tail", n.__delattr__("head") or torch.nn.Linear(8, 5)),
    ]
    for change in changes:
        other = nets.make()
        change(other)
        assert weights_of(other) != first


def test_the_source_hash_sees_classes_and_structure(nets: Any) -> None:
    assert source_of(nets.make()) == source_of(nets.SmallNet())
    assert source_of(nets.make()) != source_of(nets.make_remembering())
    stride = [torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=n)) for n in (1, 1, 2)]
    assert source_of(stride[0]) == source_of(stride[1]) != source_of(stride[2])
    inner = torch.nn.Sequential(nets.make()), torch.nn.Sequential(nets.make_remembering())
    assert source_of(inner[0]) != source_of(inner[1])


def test_the_source_of_a_script_is_its_code(nets: Any, tmp_path: Path) -> None:
    plain = nets.save_script(nets.make(), tmp_path / "small.pt")
    doubled = nets.save_script(torch.nn.Sequential(nets.make(), torch.nn.ReLU()), tmp_path / "relu.pt")
    loaded = [load_net(Torch(path)).source for path in (plain, plain, doubled)]
    assert loaded[0] == loaded[1] != loaded[2]


def test_a_module_is_described_by_class_source_weights_and_how_it_runs(nets: Any) -> None:
    described = describe_torch(Torch(nets.make(), dtype="bfloat16"))
    assert described["name"] == "torch_nets.SmallNet"
    assert described["dtype"] == "bfloat16"
    assert described["weights"] == weights_of(nets.make())
    assert described != describe_torch(Torch(nets.make()))


def test_a_file_is_described_by_its_hash_and_its_factory(nets: Any, tmp_path: Path) -> None:
    path = nets.save_state(nets.make(), tmp_path / "w.pt")
    described = describe_torch(Torch(path, factory="torch_nets:make"))
    assert described["name"] == "w.pt"
    assert described["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert described["factory"]["name"] == "torch_nets.make"
    assert described == describe_torch(Torch(path, factory=nets.make))
    assert described != describe_torch(Torch(path, factory=nets.make_wide))


def test_a_source_refuses_at_once_and_hands_over_what_it_read(nets: Any, tmp_path: Path) -> None:
    path = nets.save_state(nets.make(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="do not fit the module"):
        TorchSource(Torch(path, factory="torch_nets:make_wide"))
    source = TorchSource(Torch(path, factory="torch_nets:make"))
    path.unlink()
    assert weights_of(source.load("cpu").module) == weights_of(nets.make())
