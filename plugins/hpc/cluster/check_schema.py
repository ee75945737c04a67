"""Run by the Python of ParallelCluster's environment: check a configuration (stdin) with ParallelCluster's own schema.

Prints a JSON list of `path: problem`, empty when there is none. Needs no AWS, only that a region is named.
"""

import json
import logging
import sys


def flatten(messages: object, path: str = "") -> list[str]:
    """Return marshmallow's nested messages as `path: problem` lines; a list item's key is its index."""
    if isinstance(messages, dict):
        return [
            line
            for key, inner in messages.items()
            for line in flatten(inner, path if key == "_schema" else f"{path}.{key}")
        ]
    if isinstance(messages, list):
        return [line for inner in messages for line in flatten(inner, path)]
    return [f"{path.lstrip('.') or '(the whole file)'}: {messages}"]


def main() -> int:
    """Check stdin, whose cluster is named by the one argument."""
    logging.disable(logging.CRITICAL)
    import yaml
    from marshmallow import ValidationError
    from pcluster.schemas.cluster_schema import ClusterSchema  # type: ignore[import-not-found]

    document = yaml.safe_load(sys.stdin)
    try:
        ClusterSchema(cluster_name=sys.argv[1]).load(document)
    except ValidationError as error:
        print(json.dumps(flatten(error.messages)))
    else:
        print("[]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
