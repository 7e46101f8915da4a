"""Studies as their reports have them."""

from gossamer.app.schema.base import Answer, Shape, Table


class Picture(Shape):
    """A picture of the report, as SVG."""

    name: str
    title: str
    svg: str


class StudyPage(Answer):
    """A study in words, tables and pictures, as its report has them."""

    title: str
    kind: str
    file: str
    parts: list[str]
    sentences: list[str]
    tables: list[Table]
    pictures: list[Picture]
