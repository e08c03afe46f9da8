"""What the SDK relies on beyond its example: pollers, ETags, pages, errors. Fails if one promise does not hold."""

import os
import sys

import requests
from azure.core import MatchConditions
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.identity import ManagedIdentityCredential
from azure.mgmt.containerservice import ContainerServiceClient
from azure.mgmt.resource.resources import ResourceManagementClient

GROUP, CLUSTER = "myResourceGroup", "myAKSCluster"
ENDPOINT = os.environ["MIGPOOL_AZURE_ENDPOINT"]
SUBSCRIPTION = os.environ["AZURE_SUBSCRIPTION_ID"]
SCOPE = "https://management.migpool.local/.default"
POOL = {"count": 0, "vmSize": "Standard_ND96asr_v4", "gpuInstanceProfile": "MIG1g"}
# How many nodes of that size there can be at once.
NODES = int(os.environ.get("MIGPOOL_E2E_NODES", "2"))

credential = ManagedIdentityCredential()
migpool = {"base_url": ENDPOINT, "credential_scopes": [SCOPE]}
groups = ResourceManagementClient(credential, SUBSCRIPTION, **migpool).resource_groups
aks = ContainerServiceClient(credential, SUBSCRIPTION, **migpool)
pools = aks.agent_pools


def put(name, **more):
    """The poller of a pool that is asked for."""
    return pools.begin_create_or_update(GROUP, CLUSTER, name, {"properties": {**POOL, **more}})


def raw(method, path, version="2026-06-01", **options):
    """An answer as it comes, to a path below the cluster."""
    token = credential.get_token(SCOPE).token
    url = (
        f"{ENDPOINT}/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers"
        f"/Microsoft.ContainerService/managedClusters/{CLUSTER}{path}"
    )
    headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
    params = {"api-version": version, **options.pop("params", {})}
    return requests.request(method, url, params=params, headers=headers, timeout=60, **options)


def raises(kind, call, *words):
    """The error of a call that has to fail, with these words in it."""
    try:
        call()
    except kind as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, f"{missing} is not in: {error}"
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def a_pollers_states_and_headers():
    answer = raw("PUT", "/agentPools/states", json={"properties": {**POOL, "count": 1}})
    assert answer.status_code == 201, answer.text
    assert answer.json()["properties"]["provisioningState"] == "Creating", answer.text
    operation = answer.headers["Azure-AsyncOperation"]
    assert operation.startswith(ENDPOINT), operation
    assert int(answer.headers["Retry-After"]) <= 5, answer.headers
    for header in ("x-ms-request-id", "x-ms-correlation-request-id"):
        assert answer.headers.get(header), header
    poller = put("states", count=1)
    assert poller.result(timeout=120).provisioning_state == "Succeeded"
    assert poller.status() == "Succeeded" and poller.done()
    status = requests.get(
        operation,
        headers={"Authorization": f"Bearer {credential.get_token(SCOPE).token}"},
        timeout=60,
    ).json()
    assert status["status"] == "Succeeded" and status["startTime"] <= status["endTime"], status
    assert pools.begin_delete(GROUP, CLUSTER, "states").result(timeout=120) is None


def a_poller_goes_on_in_another_process():
    poller = put("resumed", count=1)
    token = poller.continuation_token()
    resumed = pools.begin_create_or_update(GROUP, CLUSTER, "resumed", {}, continuation_token=token)
    assert resumed.result(timeout=120).name == "resumed"
    pools.begin_delete(GROUP, CLUSTER, "resumed").wait(120)


def an_etag_that_matches_lets_through_and_one_that_does_not_refuses():
    first = put("tagged").result()
    assert first.e_tag, first
    same = pools.get(GROUP, CLUSTER, "tagged")
    assert same.e_tag == first.e_tag, (same.e_tag, first.e_tag)
    second = pools.begin_create_or_update(
        GROUP,
        CLUSTER,
        "tagged",
        {"properties": {**POOL, "nodeLabels": {"a": "b"}}},
        etag=first.e_tag,
        match_condition=MatchConditions.IfNotModified,
    ).result()
    assert second.e_tag != first.e_tag

    def stale():
        pools.begin_create_or_update(
            GROUP,
            CLUSTER,
            "tagged",
            {"properties": POOL},
            etag=first.e_tag,
            match_condition=MatchConditions.IfNotModified,
        )

    error = raises(ResourceModifiedError, stale)
    assert error.status_code == 412, error
    assert pools.get(GROUP, CLUSTER, "tagged").node_labels == {"a": "b"}

    def only_if_new():
        pools.begin_create_or_update(
            GROUP, CLUSTER, "tagged", {"properties": POOL}, match_condition=MatchConditions.IfMissing
        )

    raises((ResourceExistsError, ResourceModifiedError, HttpResponseError), only_if_new)
    raises(
        ResourceModifiedError,
        lambda: pools.begin_delete(
            GROUP, CLUSTER, "tagged", etag=first.e_tag, match_condition=MatchConditions.IfNotModified
        ),
    )
    pools.begin_delete(
        GROUP,
        CLUSTER,
        "tagged",
        etag=pools.get(GROUP, CLUSTER, "tagged").e_tag,
        match_condition=MatchConditions.IfNotModified,
    ).wait()


def the_whole_body_of_a_get_can_be_put_back():
    put("back", nodeLabels={"a": "b"}, tags={"c": "d"}).result()
    body = raw("GET", "/agentPools/back").json()
    body["properties"]["count"] = 1
    answer = raw("PUT", "/agentPools/back", json=body)
    assert answer.status_code == 200, answer.text
    pool = pools.get(GROUP, CLUSTER, "back")
    assert (pool.count, pool.node_labels, pool.tags) == (1, {"a": "b"}, {"c": "d"}), pool
    put("back", count=0).result(timeout=120)
    pools.begin_delete(GROUP, CLUSTER, "back").wait(120)


def empty_strings_are_filled_in():
    empty = {"vmSize": "", "orchestratorVersion": "", "osDiskSizeGB": 0, "count": 0}
    answer = raw("PUT", "/agentPools/empty", json={"properties": empty})
    assert answer.status_code == 201, answer.text
    properties = answer.json()["properties"]
    assert properties["vmSize"], properties
    pools.begin_delete(GROUP, CLUSTER, "empty").wait(120)


def case_does_not_matter_in_paths():
    lower = raw("GET", "").json()
    path = "/SUBSCRIPTIONS/{0}/RESOURCEGROUPS/{1}/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/{2}"
    url = ENDPOINT + path.format(SUBSCRIPTION, GROUP.upper(), CLUSTER.upper())
    upper = requests.get(
        url,
        params={"api-version": "2026-06-01"},
        headers={"Authorization": f"Bearer {credential.get_token(SCOPE).token}"},
        timeout=60,
    )
    assert upper.status_code == 200 and upper.json()["id"] == lower["id"], upper.text
    assert lower["type"] == "Microsoft.ContainerService/ManagedClusters", lower["type"]


def long_lists_have_everything_once():
    names = [f"page{index}" for index in range(12)]
    for poller in [put(name) for name in names]:
        poller.result()
    listed = [pool.name for pool in pools.list(GROUP, CLUSTER)]
    assert sorted(listed) == sorted([*names, "nodepool1"]), listed
    for poller in [pools.begin_delete(GROUP, CLUSTER, name) for name in names]:
        poller.wait(120)


def pages_follow_each_other_and_have_everything_once():
    names = [f"page{index}" for index in range(5)]
    for name in names:
        groups.create_or_update(name, {"location": "southcentralus"})
    # Each page is a request: all but the first go where the page before said.
    pages = [[group.name for group in page] for page in groups.list(top=2).by_page()]
    assert len(pages) > 2 and all(len(page) <= 2 for page in pages), pages
    assert sorted(sum(pages, [])) == sorted([GROUP, *names]), pages
    assert sorted(group.name for group in groups.list(top=2)) == sorted([GROUP, *names])
    for poller in [groups.begin_delete(name) for name in names]:
        poller.wait(120)


def what_is_not_there_is_said_to_be_not_there():
    raises(ResourceNotFoundError, lambda: pools.get(GROUP, CLUSTER, "nosuch"), "nosuch")
    raises(
        ResourceNotFoundError,
        lambda: aks.managed_clusters.get(GROUP, "nosuch"),
        "ResourceNotFound",
        "'Microsoft.ContainerService/managedClusters/nosuch' under resource group 'myResourceGroup'",
    )
    raises(ResourceNotFoundError, lambda: groups.get("nosuch"), "ResourceGroupNotFound")
    assert groups.check_existence(GROUP) and not groups.check_existence("nosuch")
    # Deleting what is not there is no failure.
    assert pools.begin_delete(GROUP, CLUSTER, "nosuch").result() is None


def bad_bodies_are_refused_in_arms_shape():
    for body in (b"", b"[]", b"{", b"\xff\xfe", b'{"properties": 1}', b'{"properties": {"count": "x"}}'):
        answer = raw(
            "PUT", "/agentPools/bad", data=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400, (body, answer.status_code, answer.text)
        error = answer.json()
        error = error.get("error", error)
        assert error["code"] and error["message"], (body, answer.text)
    raises(ResourceNotFoundError, lambda: pools.get(GROUP, CLUSTER, "bad"))


def tags_are_patched_and_the_cluster_stays_as_it_is():
    before = aks.managed_clusters.get(GROUP, CLUSTER)
    patched = aks.managed_clusters.begin_update_tags(GROUP, CLUSTER, {"tags": {"a": "b"}}).result()
    assert patched.tags == {"a": "b"}, patched.tags
    assert patched.dns_prefix == before.dns_prefix


def a_pool_is_stopped_started_and_scaled_by_itself():
    stopped = put("power", count=1, powerState={"code": "Stopped"}).result(timeout=120)
    assert stopped.power_state.code == "Stopped", stopped
    assert not list(aks.machines.list(GROUP, CLUSTER, "power"))
    started = put("power", count=1, powerState={"code": "Running"}).result(timeout=120)
    assert (started.power_state.code, started.provisioning_state) == ("Running", "Succeeded"), started
    assert len(list(aks.machines.list(GROUP, CLUSTER, "power"))) == 1
    bounds = {"enableAutoScaling": True, "minCount": 1, "maxCount": NODES}
    scaled = put("power", count=1, **bounds).result(timeout=120)
    assert (scaled.enable_auto_scaling, scaled.min_count, scaled.max_count) == (True, 1, NODES), scaled
    fixed = put("power", count=0, enableAutoScaling=False).result(timeout=120)
    assert not fixed.enable_auto_scaling and fixed.count == 0, fixed
    pools.begin_delete(GROUP, CLUSTER, "power").wait(120)


def every_operation_answers_as_the_sdk_takes_it():
    # The SDK raises at any status code that it does not know for an operation.
    put("codes", count=NODES).result(timeout=120)
    assert pools.get_upgrade_profile(GROUP, CLUSTER, "codes").kubernetes_version
    versions = pools.get_available_agent_pool_versions(GROUP, CLUSTER)
    assert any(version.default for version in versions.agent_pool_versions), versions
    pools.begin_upgrade_node_image_version(GROUP, CLUSTER, "codes").wait(120)
    machines = [machine.name for machine in aks.machines.list(GROUP, CLUSTER, "codes")]
    assert len(machines) == NODES, machines
    assert aks.machines.get(GROUP, CLUSTER, "codes", machines[0]).name == machines[0]
    pools.begin_delete_machines(GROUP, CLUSTER, "codes", {"machineNames": machines[:1]}).wait(120)
    assert [machine.name for machine in aks.machines.list(GROUP, CLUSTER, "codes")] == machines[1:]
    pools.begin_delete(GROUP, CLUSTER, "codes").wait(120)
    raises(HttpResponseError, lambda: aks.managed_clusters.begin_abort_latest_operation(GROUP, CLUSTER))

    assert aks.managed_clusters.get_upgrade_profile(GROUP, CLUSTER).control_plane_profile
    assert [cluster.name for cluster in aks.managed_clusters.list()] == [CLUSTER]
    assert [cluster.name for cluster in aks.managed_clusters.list_by_resource_group(GROUP)] == [CLUSTER]
    aks.managed_clusters.begin_stop(GROUP, CLUSTER).wait(120)
    assert aks.managed_clusters.get(GROUP, CLUSTER).power_state.code == "Stopped"
    aks.managed_clusters.begin_start(GROUP, CLUSTER).wait(120)
    assert aks.managed_clusters.get(GROUP, CLUSTER).power_state.code == "Running"

    groups.create_or_update("codes", {"location": "southcentralus"})
    assert "codes" in [group.name for group in groups.list()]
    groups.begin_delete("codes").wait(120)
    assert not groups.check_existence("codes")


PROMISES = [
    a_pollers_states_and_headers,
    a_poller_goes_on_in_another_process,
    an_etag_that_matches_lets_through_and_one_that_does_not_refuses,
    the_whole_body_of_a_get_can_be_put_back,
    empty_strings_are_filled_in,
    case_does_not_matter_in_paths,
    long_lists_have_everything_once,
    pages_follow_each_other_and_have_everything_once,
    what_is_not_there_is_said_to_be_not_there,
    bad_bodies_are_refused_in_arms_shape,
    tags_are_patched_and_the_cluster_stays_as_it_is,
    a_pool_is_stopped_started_and_scaled_by_itself,
    every_operation_answers_as_the_sdk_takes_it,
]

failed = 0
for promise in PROMISES:
    if sys.argv[1:] and promise.__name__ not in sys.argv[1:]:
        continue
    try:
        promise()
        print(f"{promise.__name__}: ok")
    except Exception as error:  # noqa: BLE001 - each promise is tried, whatever becomes of the others
        failed += 1
        print(f"{promise.__name__}: {type(error).__name__}: {error}", file=sys.stderr)
sys.exit(1 if failed else 0)
