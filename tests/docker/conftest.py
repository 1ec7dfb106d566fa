"""The images' descriptions, as a parser reads them."""

import json
from io import BytesIO
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

DOCKER = Path(__file__).parents[2] / "docker"


class Image:
    """A Dockerfile: its instructions, in their stages, and what its build arguments make of them."""

    def __init__(self, name, **build_args):
        self.path = DOCKER / f"{name}.Dockerfile"
        self.parser = DockerfileParser(fileobj=BytesIO(self.path.read_bytes()), build_args=build_args)
        self.instructions = [
            (step["instruction"], step["value"]) for step in self.parser.structure if step["instruction"] != "COMMENT"
        ]
        starts = [i for i, (instruction, _) in enumerate(self.instructions) if instruction == "FROM"]
        ends = [*starts[1:], len(self.instructions)]
        self.stages = [self.instructions[start:end] for start, end in zip(starts, ends, strict=True)]
        self.final = self.stages[-1]

    def last(self, instruction):
        """The value that counts in the image: that of the last such instruction."""
        return [value for kind, value in self.final if kind == instruction][-1]

    def command(self, instruction):
        """An instruction's command, which must be in exec form: one in shell form is not JSON."""
        return json.loads(self.last(instruction).rpartition("CMD ")[2])


@pytest.fixture
def image():
    """``image(name, **build_args)``: what docker/NAME.Dockerfile says."""
    return Image
