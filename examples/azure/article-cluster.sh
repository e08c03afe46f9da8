#!/bin/sh
# The article's steps on the cluster: credentials, NVIDIA's two charts, and a pod with a slice.
#     MIG_STRATEGY=single CHARTS=URL examples/azure/article-cluster.sh     after article-nodepool.sh
#     MIG_STRATEGY=mixed CHARTS=URL examples/azure/article-cluster.sh      after article-nodepool-mixed.sh
# CHARTS is where the charts are: `cargo xtask charts && migpool up --chart-repository target/charts` serves migpool's own.
set -e
cd "$(dirname "$0")/.."

az aks get-credentials --resource-group myResourceGroup --name myAKSCluster --overwrite-existing

helm repo add nvdp "$CHARTS"
helm repo add nvgfd "$CHARTS"
helm repo update

helm install --generate-name --set migStrategy="${MIG_STRATEGY}" nvdp/nvidia-device-plugin
helm install --generate-name --set migStrategy="${MIG_STRATEGY}" nvgfd/gpu-feature-discovery

kubectl get nodes -o wide
kubectl describe node mignode

kubectl apply -f "${MIG_STRATEGY}-strategy-example.yaml"
kubectl wait --for=condition=Ready --timeout=240s "pod/nvidia-${MIG_STRATEGY}"
kubectl exec "nvidia-${MIG_STRATEGY}" -- nvidia-smi -L
