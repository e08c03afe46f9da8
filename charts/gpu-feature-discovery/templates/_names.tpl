{{- define "migpool.discoveryAccount" -}}
{{- include "migpool.fullname" . -}}
{{- end -}}

{{- define "migpool.discoveryOutput" -}}
{{- $nfd := .Values.nfd | default dict -}}
{{- ternary "node-feature" .Values.output (eq (toString $nfd.enableNodeFeatureApi) "true") -}}
{{- end -}}
