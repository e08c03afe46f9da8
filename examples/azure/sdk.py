#!/usr/bin/env python3
"""The article's node pool by Azure's SDK for Python, against migpool:

    pip install azure-identity azure-mgmt-containerservice azure-mgmt-resource
    eval "$(migpool azure env)"
    python3 examples/azure/sdk.py
"""

import os

from azure.core import MatchConditions
from azure.identity import ManagedIdentityCredential
from azure.mgmt.containerservice import ContainerServiceClient
from azure.mgmt.resource.resources import ResourceManagementClient

GROUP, CLUSTER, POOL = "myResourceGroup", "myAKSCluster", "mignode"

# Against Azure the clients need none of these.
migpool = {
    "base_url": os.environ["MIGPOOL_AZURE_ENDPOINT"],
    "credential_scopes": ["https://management.migpool.local/.default"],
}
credential = ManagedIdentityCredential()
subscription = os.environ["AZURE_SUBSCRIPTION_ID"]
groups = ResourceManagementClient(credential, subscription, **migpool).resource_groups
aks = ContainerServiceClient(credential, subscription, **migpool)

group = groups.create_or_update(GROUP, {"location": "southcentralus"})
print(f"group {group.name}: {group.properties.provisioning_state}")

cluster = aks.managed_clusters.begin_create_or_update(
    GROUP,
    CLUSTER,
    {
        "location": "southcentralus",
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "dnsPrefix": CLUSTER.lower(),
            "agentPoolProfiles": [{"name": "nodepool1", "count": 1, "mode": "System"}],
        },
    },
).result()
print(f"cluster {cluster.name}: {cluster.provisioning_state}")

poller = aks.agent_pools.begin_create_or_update(
    GROUP,
    CLUSTER,
    POOL,
    {
        "properties": {
            "count": 1,
            "vmSize": "Standard_ND96asr_v4",
            "gpuInstanceProfile": "MIG1g",
        }
    },
)
print(f"pool {POOL}: {poller.status()}")
pool = poller.result()
print(f"pool {pool.name}: {pool.provisioning_state}, {pool.count} x {pool.vm_size}, {pool.gpu_instance_profile.value}")

# Only if nobody has changed it meanwhile.
pool.node_labels = {"team": "vision"}
pool = aks.agent_pools.begin_create_or_update(
    GROUP, CLUSTER, POOL, pool, etag=pool.e_tag, match_condition=MatchConditions.IfNotModified
).result()
print(f"pool {pool.name}: labels {pool.node_labels}")

print("pools:", ", ".join(sorted(pool.name for pool in aks.agent_pools.list(GROUP, CLUSTER))))
