"""The attribution-graph format as a JSON schema, written from its rules and not from the validator under test."""

_TEXT = {"type": "string"}
_POSITION = {"type": "integer", "minimum": 0}


def _kind(feature_type: str, **fields: object) -> dict:
    return {"properties": {"feature_type": {"const": feature_type}, **fields}}


SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["metadata", "qParams", "nodes", "links"],
    "properties": {
        "metadata": {
            "type": "object",
            "required": ["slug", "scan", "prompt_tokens", "prompt"],
            "properties": {
                "slug": {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"},
                "scan": {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"},
                "prompt": _TEXT,
                "prompt_tokens": {"type": "array", "items": _TEXT},
                "schema_version": {"const": 1},
                "transcoder_list": {"type": "array", "items": _TEXT},
                "node_threshold": {"type": "number"},
                "info": {"type": "object"},
            },
        },
        "qParams": {
            "type": "object",
            "properties": {
                "pinnedIds": {"type": "array", "items": _TEXT},
                "supernodes": {"type": "array", "items": {"type": "array", "items": _TEXT}},
                "linkType": {"const": "both"},
                "clickedId": _TEXT,
                "sg_pos": _TEXT,
            },
        },
        "nodes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp"],
                "properties": {
                    "node_id": _TEXT,
                    "feature": {"type": ["integer", "null"], "maximum": 2**53 - 1},
                    "layer": _TEXT,
                    "ctx_idx": _POSITION,
                    "reverse_ctx_idx": _POSITION,
                    "jsNodeId": _TEXT,
                    "clerp": _TEXT,
                    "token_prob": {"type": "number", "minimum": 0, "maximum": 1},
                    "is_target_logit": {"type": "boolean"},
                    "run_idx": {"const": 0},
                    "influence": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
                    "activation": {"type": ["number", "null"]},
                },
                "oneOf": [
                    _kind(
                        "cross layer transcoder",
                        node_id={"pattern": r"^\d+_\d+_\d+$"},
                        jsNodeId={"pattern": r"^\d+_\d+-0$"},
                        layer={"pattern": r"^\d+$"},
                    ),
                    _kind(
                        "embedding",
                        node_id={"pattern": r"^E_\d+_\d+$"},
                        jsNodeId={"pattern": r"^E_\d+-\d+$"},
                        layer={"const": "E"},
                    ),
                    _kind(
                        "mlp reconstruction error",
                        feature={"const": -1},
                        node_id={"pattern": r"^\d+_error_[a-z_]+_\d+$"},
                        jsNodeId={"pattern": r"^\d+_error_[a-z_]+-0$"},
                        layer={"pattern": r"^\d+$"},
                    ),
                    _kind("unknown", feature={"const": -1}, layer={"pattern": r"^[1-9]\d*$"}),
                    _kind(
                        "logit",
                        node_id={"pattern": r"^\d+_\d+_\d+$"},
                        jsNodeId={"pattern": r"^L_\d+-\d+$"},
                        clerp={"pattern": r'^Output "[^"]*" \(p=[01]\.\d{3}\)$'},
                    ),
                ],
            },
        },
        "links": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["source", "target", "weight"],
                "properties": {"source": _TEXT, "target": _TEXT, "weight": {"type": "number"}},
                "additionalProperties": False,
            },
        },
    },
}
