{{- define "sim.refusals" -}}
{{- include "migpool.refuse" . -}}
{{- if and .Values.allNodes .Values.nodeSelector -}}
{{- fail "allNodes is true and nodeSelector is set: keep one of them." -}}
{{- end -}}
{{- if not (or .Values.allNodes .Values.nodeSelector) -}}
{{- fail "Say which nodes get simulated GPUs: nodeSelector (--set nodeSelector.kubernetes\\.io/hostname=NODE), or allNodes=true for every node without a GPU." -}}
{{- end -}}
{{- if not .Values.boards -}}
{{- fail "boards is empty: name at least one, for example boards[0].name=A100-SXM4-40GB and boards[0].count=8; `migpool profiles` lists them." -}}
{{- end -}}
{{- $count := 0 -}}
{{- range .Values.boards -}}
{{- $count = add $count (.count | default 1 | int) -}}
{{- end -}}
{{- if gt (int $count) 32 -}}
{{- fail (printf "boards are %d in all: a driver has at most 32 GPUs." (int $count)) -}}
{{- end -}}
{{- end -}}

{{- define "sim.noRealGpu" -}}
- {key: feature.node.kubernetes.io/pci-10de.present, operator: NotIn, values: ["true"]}
- {key: feature.node.kubernetes.io/pci-0300_10de.present, operator: NotIn, values: ["true"]}
- {key: feature.node.kubernetes.io/pci-0302_10de.present, operator: NotIn, values: ["true"]}
- {key: cloud.google.com/gke-accelerator, operator: DoesNotExist}
- {key: k8s.amazonaws.com/accelerator, operator: DoesNotExist}
- {key: karpenter.k8s.aws/instance-gpu-manufacturer, operator: DoesNotExist}
{{- end -}}
