"""Holds YAML against the schema of those that read it.

    check.py values SCHEMA JSON         the values of a chart, against its values.schema.json
    check.py manifests YAML             every document, against tests/data/kubernetes.json; prints the ringway.toml in it
    check.py compose YAML               against tests/data/compose.json
"""

import json
import pathlib
import sys

import jsonschema
import yaml

DATA = pathlib.Path(__file__).parents[2] / "tests" / "data"

# What the schemas have, by the kind of the document. The Prometheus operator's own kinds are not among them.
KINDS = {
    "ConfigMap": ("v1", "core.v1"),
    "DaemonSet": ("apps/v1", "apps.v1"),
    "Deployment": ("apps/v1", "apps.v1"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networking.v1"),
    "PodDisruptionBudget": ("policy/v1", "policy.v1"),
    "Service": ("v1", "core.v1"),
    "ServiceAccount": ("v1", "core.v1"),
}
FOREIGN = {"PodMonitor", "ServiceMonitor"}


class NoTwice(yaml.SafeLoader):
    """YAML takes the last of two equal keys, and Kubernetes refuses them."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            sys.exit(f"{node.start_mark}: twice: {', '.join(sorted(twice))}")
        return super().construct_mapping(node, deep)


def hold(document, schema, name):
    """Every error, with its place; ends the program if there is one."""
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft201909Validator)(schema)
    errors = [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    if errors:
        sys.exit("\n".join(errors))


def manifests(path):
    schema = json.loads((DATA / "kubernetes.json").read_text())
    seen = set()
    for document in yaml.load_all(path.read_text(), NoTwice):
        kind = document["kind"]
        name = f"{path.name}: {kind} {document['metadata']['name']}"
        if name in seen:
            sys.exit(f"{name}: twice")
        seen.add(name)
        if kind in FOREIGN:
            continue
        version, group = KINDS[kind]
        if document["apiVersion"] != version:
            sys.exit(f"{name}: {document['apiVersion']} instead of {version}")
        hold(document, {**schema, "$ref": f"#/$defs/io.k8s.api.{group}.{kind}"}, name)
        if kind == "ConfigMap":
            print(document["data"]["ringway.toml"])
    if not seen:
        sys.exit(f"{path}: no document")


def main():
    what, *paths = sys.argv[1:]
    paths = [pathlib.Path(path) for path in paths]
    if what == "values":
        hold(json.loads(paths[1].read_text()), json.loads(paths[0].read_text()), paths[1].name)
    elif what == "manifests":
        manifests(paths[0])
    elif what == "compose":
        hold(yaml.load(paths[0].read_text(), NoTwice), json.loads((DATA / "compose.json").read_text()), paths[0].name)
    else:
        sys.exit(f"{what}: values, manifests or compose")


main()
