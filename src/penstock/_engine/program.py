"""What a worker process has to know of the parent's program to find the same code."""

from __future__ import annotations

import sys
from dataclasses import dataclass

READING: list[Program] = []
"""The program whose main module is being read for what it defines: it must not start its work over again."""


@dataclass(frozen=True, slots=True)
class Program:
    """Where modules are looked for, and what the main one is. It travels to the child.

    `main`: its name where it was run with -m; `file`: its file; both None where there is none (python -c, a notebook).
    """

    path: list[str]
    argv: list[str]
    main: str | None
    file: str | None

    @classmethod
    def this(cls) -> Program:
        """Return the program of this process."""
        module = sys.modules["__main__"]
        spec = getattr(module, "__spec__", None)
        file = getattr(module, "__file__", None)
        return cls(list(sys.path), list(sys.argv), None if spec is None else spec.name, file)

    @property
    def findable(self) -> bool:
        """Whether what its main module defines can be found by another process."""
        return self.main is not None or self.file is not None

    def enter(self) -> None:
        """Look for modules where the parent does."""
        sys.path[:], sys.argv[:] = self.path, self.argv

    def enter_main(self) -> None:
        """Read the main module under the name `__mp_main__`, as multiprocessing does; once."""
        if "__mp_main__" in sys.modules or not self.findable:
            return
        from multiprocessing import spawn

        READING.append(self)
        try:
            spawn.prepare({"init_main_from_name": self.main} if self.main else {"init_main_from_path": self.file})
        finally:
            READING.pop()
