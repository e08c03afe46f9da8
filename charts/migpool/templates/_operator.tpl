{{/* The values of the operator, as YAML. `helm upgrade --reuse-values` from a chart without an operator brings none of its defaults,
     so they are here too; a test holds them to values.yaml. */}}
{{- define "migpool.operator" -}}
{{- $tolerations := list
  (dict "key" "CriticalAddonsOnly" "operator" "Exists")
  (dict "key" "node-role.kubernetes.io/control-plane" "operator" "Exists" "effect" "NoSchedule")
  (dict "key" "migpool.dev/partitioning" "operator" "Exists" "effect" "NoSchedule")
  (dict "key" "sku" "value" "gpu" "effect" "NoSchedule") -}}
{{- $defaults := dict
  "enabled" true "replicas" 1 "evict" false "clusterAPI" false
  "webhook" (dict "enabled" true "port" 9443)
  "listen" (dict "address" "0.0.0.0" "port" 8091)
  "tolerations" $tolerations
  "priorityClassName" "system-cluster-critical" -}}
{{- mergeOverwrite $defaults (deepCopy (.Values.operator | default dict)) | toYaml -}}
{{- end -}}

{{/* Whether there is to be an operator for the agents, of this release or of another: "true" or nothing. */}}
{{- define "migpool.isOperated" -}}
{{- if (include "migpool.operator" . | fromYaml).enabled -}}true{{- end -}}
{{- end -}}

{{/* Whether this release brings it. */}}
{{- define "migpool.hasOperator" -}}
{{- $operator := include "migpool.operator" . | fromYaml -}}
{{- if and $operator.enabled (gt (int $operator.replicas) 0) -}}true{{- end -}}
{{- end -}}

{{/* Whether it brings the webhook. */}}
{{- define "migpool.hasWebhook" -}}
{{- if and (include "migpool.hasOperator" .) (include "migpool.operator" . | fromYaml).webhook.enabled -}}true{{- end -}}
{{- end -}}

{{/* Whether agents may evict pods. */}}
{{- define "migpool.evicts" -}}
{{- $operator := include "migpool.operator" . | fromYaml -}}
{{- if or (eq .Values.drain "evict") (and $operator.enabled $operator.evict) -}}true{{- end -}}
{{- end -}}

{{- define "migpool.operatorName" -}}
{{- include "migpool.suffixed" (dict "root" . "suffix" "operator") -}}
{{- end -}}

{{/* The name of the webhook's Service and Secret. */}}
{{- define "migpool.webhookName" -}}
{{- include "migpool.suffixed" (dict "root" . "suffix" "webhook") -}}
{{- end -}}

{{/* The name of the webhook's configuration, which has no namespace. */}}
{{- define "migpool.webhookConfiguration" -}}
{{- printf "%s-%s" (include "migpool.namespace" .) (include "migpool.webhookName" .) -}}
{{- end -}}

{{/* The same for all releases of a namespace, so that two operators there never act at the same time. */}}
{{- define "migpool.lease" -}}
migpool-operator
{{- end -}}

{{/* Node pools have no namespace, so there is one operator in a cluster. helm sees it at install and upgrade. */}}
{{- define "migpool.operatorConflicts" -}}
{{- if and .Values.conflictCheck (include "migpool.hasOperator" .) -}}
{{- $root := . -}}
{{- range (lookup "apps/v1" "Deployment" "" "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- $annotations := .metadata.annotations | default dict -}}
{{- $own := and (eq (get $annotations "meta.helm.sh/release-name") $root.Release.Name) (eq (get $annotations "meta.helm.sh/release-namespace") $root.Release.Namespace) -}}
{{- $ours := and (eq (get $labels "app.kubernetes.io/part-of") "migpool") (eq (get $labels "app.kubernetes.io/component") "operator") -}}
{{- if and $ours (not $own) (not .metadata.deletionTimestamp) -}}
{{- fail (printf "Deployment %s/%s is migpool's operator already, and a cluster has one: set operator.replicas=0, and the agents of this release work with that one." .metadata.namespace .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
