{{/* The DaemonSet of a configuration. Arguments: root, suffix. */}}
{{- define "plugin.daemonset" -}}
{{- if .suffix -}}
{{- include "migpool.suffixed" . -}}
{{- else -}}
{{- include "migpool.fullname" .root -}}
{{- end -}}
{{- end -}}

{{- define "plugin.discoveryDaemonset" -}}
{{- $name := .root.Values.gfd.nameOverride | default "gpu-feature-discovery" -}}
{{- include "migpool.suffixed" (dict "root" .root "suffix" (ternary (printf "%s-%s" $name .suffix) $name (not (empty .suffix)))) -}}
{{- end -}}

{{- define "plugin.component" -}}
{{- ternary (printf "%s-%s" .name .suffix) .name (not (empty .suffix)) -}}
{{- end -}}

{{- define "migpool.discoveryAccount" -}}
{{- include "plugin.discoveryDaemonset" (dict "root" . "suffix" "") -}}
{{- end -}}

{{- define "migpool.discoveryOutput" -}}
{{- $nfd := .Values.nfd | default dict -}}
{{- ternary "node-feature" (.Values.gfd.output | default "node") (eq (toString $nfd.enableNodeFeatureApi) "true") -}}
{{- end -}}
