"""Many clients that make, change and delete pools, whatever becomes of migpool meanwhile.

    crowd.py CLIENTS POOLS    works, and answers for each pool: it is as the last answer said
    crowd.py check POOLS      looks again whether all is as the work has left it
"""

import os
import pathlib
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import requests

GROUP, CLUSTER = "myResourceGroup", "myAKSCluster"
ENDPOINT = os.environ["MIGPOOL_AZURE_ENDPOINT"]
SUBSCRIPTION = os.environ["AZURE_SUBSCRIPTION_ID"]
POOLS = (
    f"{ENDPOINT}/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers"
    f"/Microsoft.ContainerService/managedClusters/{CLUSTER}/agentPools"
)
TERMINAL = ("Succeeded", "Failed", "Canceled")
# How long what was asked may take, kills and all.
LIMIT = 240
# What there is of the pools' nodes is fought for where there are few; on one machine there is one for each pool that asks.
ARE_NODES_FEW = "MIGPOOL_E2E_NODES" in os.environ

local = threading.local()


def token():
    """A bearer token of this client's own."""
    if getattr(local, "expires", 0) < time.time() + 60:
        answer = requests.get(
            os.environ["IDENTITY_ENDPOINT"],
            params={"api-version": "2019-08-01", "resource": "https://management.migpool.local"},
            headers={"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]},
            timeout=30,
        )
        answer.raise_for_status()
        local.token = answer.json()["access_token"]
        local.expires = int(answer.json()["expires_on"])
    return local.token


def ask(method, url, **options):
    """An answer, asked for again where there was none or one to wait for. The session of a client is kept open."""
    if not hasattr(local, "session"):
        local.session = requests.Session()
    deadline = time.time() + LIMIT
    while True:
        try:
            headers = {"Authorization": f"Bearer {token()}"}
            params = {} if "api-version" in url else {"api-version": "2026-06-01"}
            answer = local.session.request(
                method, url, params=params, headers=headers, timeout=30, **options
            )
            # Another operation goes on, or there are too many requests: Azure's clients ask again too.
            if answer.status_code not in (409, 429, 503):
                assert answer.status_code < 500, (method, url, answer.status_code, answer.text)
                return answer
            pause = float(answer.headers.get("Retry-After", 0.5))
        except requests.exceptions.RequestException:
            pause = 0.2
        assert time.time() < deadline, f"{method} {url} is not answered"
        time.sleep(min(pause, 5))


def finished(answer):
    """How the operation of an answer ends."""
    operation = answer.headers.get("Azure-AsyncOperation")
    if operation is None:
        return "Succeeded"
    deadline = time.time() + LIMIT
    while True:
        status = ask("GET", operation).json()
        if status["status"] in TERMINAL:
            assert status["status"] == "Succeeded" or status["error"]["message"], status
            return status["status"]
        assert time.time() < deadline, f"{operation} does not end"
        time.sleep(0.3)


def name_of(index):
    return f"p{index}"


def body(count, labels):
    return {
        "properties": {
            "count": count,
            "vmSize": "Standard_ND96asr_v4",
            "gpuInstanceProfile": "MIG1g",
            "nodeLabels": labels,
        }
    }


def is_scaled(index):
    """Of five pools, one gets a node, and gives it back."""
    return index % 5 == 0


def last_count(index):
    """How many nodes a pool has at the end: of forty, one keeps its own where there are enough."""
    return int(index % 40 == 0 and not ARE_NODES_FEW)


def is_deleted(index):
    """Of three pools, one is deleted."""
    return index % 3 == 2


def work(index):
    """The life of one pool."""
    url = f"{POOLS}/{name_of(index)}"
    made = ask("PUT", url, json=body(0, {"step": "made"}))
    assert made.status_code in (200, 201), made.text
    assert finished(made) == "Succeeded"
    counts = [1, last_count(index)] if is_scaled(index) else [0]
    for count in counts:
        changed = ask("PUT", url, json=body(count, {"step": "changed"}))
        assert changed.status_code == 200, changed.text
        assert finished(changed) == "Succeeded"
    if is_deleted(index):
        gone = ask("DELETE", url)
        assert gone.status_code in (202, 204), gone.text
        assert finished(gone) == "Succeeded"


def wanted(index):
    """What there has to be of a pool at the end: its count and labels, or nothing."""
    if is_deleted(index):
        return None
    return (last_count(index), {"step": "changed"})


def check(pools):
    """Every pool is as its last answer said, and there is no other."""
    deadline = time.time() + LIMIT
    while True:
        found, states, url = {}, {}, POOLS
        while url:
            page = ask("GET", url).json()
            for pool in page["value"]:
                properties = pool["properties"]
                states[pool["name"]] = properties["provisioningState"]
                found[pool["name"]] = (properties["count"], properties.get("nodeLabels"))
            url = page.get("nextLink")
        # Agents start anew with a migpool that was killed, and their pools are on their way until then.
        unsettled = {name: state for name, state in states.items() if state != "Succeeded"}
        if not unsettled:
            break
        assert time.time() < deadline, f"not as asked: {unsettled}"
        time.sleep(0.5)
    del found["nodepool1"]
    expected = {name_of(i): wanted(i) for i in range(pools) if wanted(i)}
    lost = sorted(set(expected) - set(found))
    more = sorted(set(found) - set(expected))
    assert not lost and not more, f"lost {lost}, there though deleted {more}"
    wrong = [name for name in expected if found[name] != expected[name]]
    assert not wrong, [(name, found[name]) for name in wrong[:5]]
    print(f"{pools} pools are as they should be: {len(expected)} are there, with {sum(c for c, _ in found.values())} nodes")


def main():
    pools = int(sys.argv[2])
    if sys.argv[1] != "check":
        # Whoever is to kill migpool meanwhile waits for this.
        pathlib.Path.home().joinpath("crowd-has-begun").touch()
        with ThreadPoolExecutor(int(sys.argv[1])) as clients:
            for result in [clients.submit(work, index) for index in range(pools)]:
                result.result()
    check(pools)


main()
