from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

from penstock._models.source_hash import describe, qualified_name


def double(batch: list[int]) -> list[int]:
    return [2 * value for value in batch]


def triple(batch: list[int]) -> list[int]:
    return [3 * value for value in batch]


class Net:
    def predict(self, batch: list[int]) -> list[int]:
        return batch


class Versioned(Net):
    version = 7


def scaled(factor: Any) -> Any:
    return lambda batch: [factor * value for value in batch]


def test_a_function_is_its_name_and_its_source() -> None:
    described = describe(double)
    assert described["name"].endswith(".double")
    assert len(described["source"]) == 64
    assert described == describe(double)
    assert described["source"] != describe(triple)["source"]


def test_an_instance_and_its_class_are_the_same_source() -> None:
    assert describe(Net()) == describe(Net)
    assert describe(Net())["name"].endswith(".Net")


def test_a_version_stands_for_the_source() -> None:
    described = describe(Versioned())
    assert described["version"] == "7"
    assert "source" not in described


def test_what_a_function_closes_over_counts() -> None:
    assert describe(scaled(2))["source"] == describe(scaled(2))["source"]
    assert describe(scaled(2))["source"] != describe(scaled(3))["source"]


def test_objects_closed_over_count_by_their_type_not_their_address() -> None:
    assert describe(scaled(Net()))["source"] == describe(scaled(Net()))["source"]


def test_partials_count_with_their_arguments() -> None:
    two, three = functools.partial(pow, 2), functools.partial(pow, 3)
    assert describe(two)["source"] != describe(three)["source"]
    assert qualified_name(two) == "partial(builtins.pow)"


def test_methods_and_builtins_have_a_description() -> None:
    assert describe(Net().predict)["name"].endswith("Net.predict")
    assert describe(len)["name"] == "builtins.len"
    assert describe(Net().predict)["source"] != describe(Net)["source"]


PROMPT = """
from penstock._models.source_hash import describe
space = {}
exec("def f(batch, k={k}):\\n    def g(x):\\n        return x * {c}\\n    return [g(b) for b in batch]", space)
print(describe(space["f"])["source"])
"""


def hashed(k: int, c: int) -> str:
    code = PROMPT.replace("{k}", str(k)).replace("{c}", str(c))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_without_source_the_byte_code_counts_the_same_in_every_process() -> None:
    assert hashed(1, 2) == hashed(1, 2)
    assert len({hashed(1, 2), hashed(1, 3), hashed(2, 2)}) == 3
