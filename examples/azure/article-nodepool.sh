#!/bin/sh
# The article's node pool, by the article's own commands. They do the same against Azure; against migpool when the shell has had
#     eval "$(migpool azure env)"
set -e

az group create --name myResourceGroup --location southcentralus

az aks create \
    --resource-group myResourceGroup \
    --name myAKSCluster \
    --node-count 1

# The article leaves --node-count out, and az then asks for three nodes.
az aks nodepool add \
    --name mignode \
    --resource-group myResourceGroup \
    --cluster-name myAKSCluster \
    --node-vm-size Standard_ND96asr_v4 \
    --gpu-instance-profile MIG1g \
    --node-count 1

# Or the same as a PUT, which finds the pool as it asks for it: by az ...
pool="/subscriptions/$(az account show --query id --output tsv)/resourceGroups/myResourceGroup/providers/Microsoft.ContainerService/managedClusters/myAKSCluster/agentPools/mignode"
body='{
    "properties": {
        "count": 1,
        "vmSize": "Standard_ND96asr_v4",
        "type": "VirtualMachineScaleSets",
        "gpuInstanceProfile": "MIG1g"
    }
}'
az rest --method put --url "$pool?api-version=2021-08-01" --body "$body"

# ... and by curl.
curl --fail-with-body --silent --show-error --request PUT \
    --header "Authorization: Bearer $(az account get-access-token --query accessToken --output tsv)" \
    --header "Content-Type: application/json" \
    --data "$body" \
    "$(az cloud show --query endpoints.resourceManager --output tsv)$pool?api-version=2021-08-01"
echo

az aks nodepool wait --created \
    --name mignode \
    --resource-group myResourceGroup \
    --cluster-name myAKSCluster

az aks nodepool list \
    --resource-group myResourceGroup \
    --cluster-name myAKSCluster \
    --output table
