#!/bin/sh
# The article's node pool for its strategy mixed, instead of article-nodepool.sh. The article names the strategy to NVIDIA's charts
# alone; here a node offers its slices before those charts come, so its pool has to have the strategy too. az has no flag for that.
set -e

az group create --name myResourceGroup --location southcentralus

az aks create \
    --resource-group myResourceGroup \
    --name myAKSCluster \
    --node-count 1

pool="/subscriptions/$(az account show --query id --output tsv)/resourceGroups/myResourceGroup/providers/Microsoft.ContainerService/managedClusters/myAKSCluster/agentPools/mignode"
az rest --method put --url "$pool?api-version=2026-07-02-preview" --body '{
    "properties": {
        "count": 1,
        "vmSize": "Standard_ND96asr_v4",
        "type": "VirtualMachineScaleSets",
        "gpuInstanceProfile": "MIG1g",
        "gpuProfile": {"nvidia": {"migStrategy": "Mixed"}}
    }
}'

az aks nodepool wait --created \
    --name mignode \
    --resource-group myResourceGroup \
    --cluster-name myAKSCluster \
    --interval 5
