"""Asks the API server of the tests as the client that Kubernetes publishes for Python does.

It gets a kubeconfig and, between two parts, a line on its input when the server has forgotten what was. What does not
fit ends it with a traceback.
"""

import sys

from kubernetes import client, config, watch

NAMESPACE = "shop"
SERVICE = "kubernetes.io/service-name=db"

config.load_kube_config(sys.argv[1])
api = client.DiscoveryV1Api()


def pages():
    """Every page of the list."""
    token = None
    while True:
        page = api.list_namespaced_endpoint_slice(NAMESPACE, label_selector=SERVICE, limit=2, _continue=token)
        yield page
        token = page.metadata._continue
        if not token:
            return


def refused(ask):
    """The status with which the server refuses."""
    try:
        ask()
    except client.exceptions.ApiException as error:
        return error.status
    raise AssertionError("it is not refused")


lists = list(pages())
names = [item.metadata.name for page in lists for item in page.items]
assert [len(page.items) for page in lists] == [2, 2, 1], lists
assert names == ["db-0", "db-1", "db-2", "db-3", "db-4"], names
first = lists[0].items[0]
assert first.address_type == "IPv4" and first.ports[0].port == 5432 and first.ports[0].name == "pg", first
assert first.endpoints[0].addresses == ["10.0.0.1"] and first.endpoints[0].conditions.ready is True, first
assert first.api_version == "discovery.k8s.io/v1" and first.kind == "EndpointSlice", first

seen = watch.Watch()
kinds = []
for event in seen.stream(
    api.list_namespaced_endpoint_slice,
    NAMESPACE,
    label_selector=SERVICE,
    resource_version="100",
    allow_watch_bookmarks=True,
    timeout_seconds=1,
):
    kinds.append(event["type"])
assert kinds[:8] == ["ADDED"] * 5 + ["MODIFIED", "ADDED", "DELETED"], kinds
assert "BOOKMARK" in kinds, kinds
version = lists[0].metadata.resource_version
assert seen.resource_version == version, (seen.resource_version, version)

token = next(pages()).metadata._continue
print("forget", flush=True)
sys.stdin.readline()
old = {"label_selector": SERVICE, "limit": 2, "_continue": token}
assert refused(lambda: api.list_namespaced_endpoint_slice(NAMESPACE, **old)) == 410
gone = watch.Watch().stream(
    api.list_namespaced_endpoint_slice, NAMESPACE, label_selector=SERVICE, resource_version="100", timeout_seconds=1
)
assert refused(lambda: list(gone)) == 410

print("refuse", flush=True)
sys.stdin.readline()
assert refused(lambda: list(pages())) == 401
print("done", flush=True)
