"""Studies as their reports have them."""

from gossamer.app.schema.base import Answer, PartId, Shape, Table


class Picture(Shape):
    """A picture of the report, as SVG."""

    name: str
    title: str
    svg: str


class StudiedCircuit(Shape):
    """What a study found of one task, as a circuit of the run."""

    task: str
    circuit: PartId


class StudyPage(Answer):
    """A study in words, tables and pictures, as its report has them."""

    title: str
    kind: str
    file: str
    parts: list[str]
    sentences: list[str]
    tables: list[Table]
    pictures: list[Picture]
    circuits: list[StudiedCircuit]
