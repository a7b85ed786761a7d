"""Python from the .proto files beside this one, by the pinned protoc of grpcio-tools.

A step of the package's build (pyproject.toml, tool.setuptools.cmdclass); nothing of it runs later.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from setuptools.command.build_py import build_py

HERE = Path(__file__).parent


def generate() -> None:
    """Write NAME_pb2.py and NAME_pb2.pyi for each NAME.proto.  Raises RuntimeError."""
    from grpc_tools import protoc

    root = HERE.parent.parent
    names = [str(path.relative_to(root)) for path in sorted(HERE.glob("*.proto"))]
    known = files("grpc_tools") / "_proto"
    arguments = [f"-I{root}", f"-I{known}", f"--python_out={root}", f"--pyi_out={root}", *names]
    if protoc.main(["protoc", *arguments]) != 0:
        raise RuntimeError(f"protoc cannot compile {', '.join(names)}")


class BuildWithProtos(build_py):
    """build_py, after the messages were generated."""

    def run(self) -> None:
        generate()
        super().run()
