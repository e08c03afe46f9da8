// The article's node pool as a template, for a cluster that is there.
//     az deployment group create --resource-group myResourceGroup --template-file nodepool.json
// nodepool.json is this file compiled: az bicep build --file nodepool.bicep

@description('The cluster that the pool is added to.')
param clusterName string = 'myAKSCluster'

@description('The pool: a lower-case letter and up to 11 more lower-case letters and digits.')
param poolName string = 'migbicep'

@description('How many nodes.')
@minValue(0)
param nodeCount int = 1

@description('How each GPU is cut.')
@allowed(['MIG1g', 'MIG2g', 'MIG3g', 'MIG4g', 'MIG7g'])
param gpuInstanceProfile string = 'MIG1g'

resource cluster 'Microsoft.ContainerService/managedClusters@2024-09-01' existing = {
  name: clusterName
}

resource pool 'Microsoft.ContainerService/managedClusters/agentPools@2024-09-01' = {
  parent: cluster
  name: poolName
  properties: {
    count: nodeCount
    vmSize: 'Standard_ND96asr_v4'
    mode: 'User'
    gpuInstanceProfile: gpuInstanceProfile
  }
}

output poolId string = pool.id
