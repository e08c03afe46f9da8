{{- define "migpool.agentRefusals" -}}
{{- include "migpool.refuse" . -}}
{{- if and .Values.layout .Values.gpuInstanceProfile -}}
{{- fail "layout and gpuInstanceProfile are both set: they say the same thing in two ways; keep one of them." -}}
{{- end -}}
{{- $operator := include "migpool.operator" . | fromYaml -}}
{{- if and (include "migpool.hasWebhook" .) (eq (int $operator.listen.port) (int $operator.webhook.port)) -}}
{{- fail (printf "operator.listen.port and operator.webhook.port are both %d: give them two ports." (int $operator.webhook.port)) -}}
{{- end -}}
{{- include "migpool.armRefusals" . -}}
{{- include "migpool.conflicts" . -}}
{{- include "migpool.operatorConflicts" . -}}
{{- end -}}
