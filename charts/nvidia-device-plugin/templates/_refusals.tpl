{{- define "plugin.refusals" -}}
{{- include "migpool.refuse" . -}}
{{- include "migpool.refuseNfd" . -}}
{{- range $flag := list "gdrcopyEnabled" "gdsEnabled" "mofedEnabled" -}}
{{- if get $.Values $flag -}}
{{- fail (printf "%s is true: handing out the devices of GPUDirect and MOFED is not supported; set %s=false." $flag $flag) -}}
{{- end -}}
{{- end -}}
{{- if .Values.legacyDaemonsetAPI -}}
{{- fail "legacyDaemonsetAPI is true: Kubernetes has had no DaemonSet outside apps/v1 since 1.16; remove it." -}}
{{- end -}}
{{- $mps := .Values.mps | default dict -}}
{{- if or (and $mps.root (ne $mps.root "/run/nvidia/mps")) $mps.enableHostPID $mps.enableHostNetwork $mps.resources -}}
{{- fail "mps is set: sharing a GPU by MPS is not supported; remove mps.*, and use MIG for parts of a GPU." -}}
{{- end -}}
{{- if .Values.cdi.featureFlags -}}
{{- fail "cdi.featureFlags is set, and migpool's CDI specifications have no such flags; remove it." -}}
{{- end -}}
{{- if (.Values.configManager | default dict).resources -}}
{{- fail "configManager.resources is set, and there is no such container: the scheduler chooses a node's configuration by its label; remove it." -}}
{{- end -}}
{{- if and .Values.gfd.namespaceOverride (ne .Values.gfd.namespaceOverride (include "migpool.namespace" .)) -}}
{{- fail "gfd.namespaceOverride is set: discovery goes to the plugin's namespace; install the chart gpu-feature-discovery for another." -}}
{{- end -}}
{{- if and (not .Values.devicePlugin.enabled) (not .Values.gfd.enabled) -}}
{{- fail "devicePlugin.enabled and gfd.enabled are both false: there is nothing to install." -}}
{{- end -}}
{{- if and .Values.devicePlugin.enabled (not (include "plugin.servedBy" .)) -}}
{{- include "migpool.conflicts" . -}}
{{- end -}}
{{- end -}}

{{/* The DaemonSet of migpool's agents that advertises the GPUs of all nodes that this release is for, if there is one: nothing is
     left for a device plugin to do, and a second one would take its resources away. */}}
{{- define "plugin.servedBy" -}}
{{- $root := . -}}
{{- range (lookup "apps/v1" "DaemonSet" "" "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- if and (eq (get $labels "app.kubernetes.io/part-of") "migpool") (eq (get $labels "app.kubernetes.io/component") "agent") (not .metadata.deletionTimestamp) (not .spec.template.spec.affinity) -}}
{{- $everywhere := true -}}
{{- range $key, $value := omit (.spec.template.spec.nodeSelector | default dict) "kubernetes.io/os" -}}
{{- if ne (toString (get ($root.Values.nodeSelector | default dict) $key)) $value -}}
{{- $everywhere = false -}}
{{- end -}}
{{- end -}}
{{- if $everywhere -}}
{{- printf "%s/%s " .metadata.namespace .metadata.name -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where there is a configuration file, its default is in the file. */}}
{{- define "plugin.deviceListStrategy" -}}
{{- if or .Values.deviceListStrategy .Values.config.name .Values.config.map -}}
{{- include "migpool.deviceListStrategy" . -}}
{{- else -}}
{{- include "migpool.deviceListStrategy" (dict "Values" (dict "deviceListStrategy" "cdi-cri") "Capabilities" .Capabilities) -}}
{{- end -}}
{{- end -}}

{{- define "plugin.nvidiaDriverRoot" -}}
{{- if .Values.nvidiaDriverRoot -}}
{{- .Values.nvidiaDriverRoot -}}
{{- else if not (or .Values.config.name .Values.config.map) -}}
auto
{{- end -}}
{{- end -}}
