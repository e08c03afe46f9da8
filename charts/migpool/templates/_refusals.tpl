{{- define "migpool.agentRefusals" -}}
{{- include "migpool.refuse" . -}}
{{- if and .Values.layout .Values.gpuInstanceProfile -}}
{{- fail "layout and gpuInstanceProfile are both set: they say the same thing in two ways; keep one of them." -}}
{{- end -}}
{{- if and (contains "cdi-cri" .Values.deviceListStrategy) (semverCompare "<1.28.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "deviceListStrategy is %s, and the kubelet understands cdi-cri from Kubernetes 1.28 on; this cluster is %s: set deviceListStrategy=cdi-annotations or envvar." .Values.deviceListStrategy .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- include "migpool.conflicts" . -}}
{{- end -}}
