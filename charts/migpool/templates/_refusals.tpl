{{- define "migpool.agentRefusals" -}}
{{- include "migpool.refuse" . -}}
{{- if and .Values.layout .Values.gpuInstanceProfile -}}
{{- fail "layout and gpuInstanceProfile are both set: they say the same thing in two ways; keep one of them." -}}
{{- end -}}
{{- include "migpool.conflicts" . -}}
{{- end -}}
