"""The page's types are those of the routes."""

import json

from gossamer.app.columns import MEDIA_TYPE
from gossamer.app.openapi import SCHEMA, openapi


def test_the_schema_in_the_tree_is_the_applications_own():
    assert json.loads(SCHEMA.read_text()) == openapi(), "run python -m gossamer.app.openapi, and build the page again"


def test_every_route_names_what_it_answers():
    for path, methods in openapi()["paths"].items():
        for method, said in methods.items():
            content = said["responses"]["200"]["content"]
            if MEDIA_TYPE in content or list(content) in (["application/octet-stream"], ["text/event-stream"]):
                continue  # columns, whose header says what they are, files, and events, which are told by name
            shape = content["application/json"]["schema"]
            assert "$ref" in shape, (path, method)
