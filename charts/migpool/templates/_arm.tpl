{{/* The values of the ARM front, as YAML. `helm upgrade --reuse-values` from a chart without one brings none of its defaults, so
     they are here too; a test holds them to values.yaml. */}}
{{- define "migpool.arm" -}}
{{- $tolerations := list
  (dict "key" "CriticalAddonsOnly" "operator" "Exists")
  (dict "key" "node-role.kubernetes.io/control-plane" "operator" "Exists" "effect" "NoSchedule") -}}
{{- $defaults := dict
  "enabled" false "replicas" 1 "port" 8443
  "service" (dict "type" "ClusterIP" "port" 443)
  "names" list "origin" "" "subscription" "00000000-0000-0000-0000-000000000000"
  "credentials" (dict "clusterRole" "cluster-admin" "lifeSeconds" 28800 "server" "")
  "issuer" (dict "url" "" "audience" "" "rolesClaim" "")
  "tolerations" $tolerations -}}
{{- mergeOverwrite $defaults (deepCopy (.Values.arm | default dict)) | toYaml -}}
{{- end -}}

{{/* Whether there is to be a front, of which the operator of this release looks after the records: "true" or nothing. */}}
{{- define "migpool.hasArm" -}}
{{- if and (include "migpool.hasOperator" .) (include "migpool.arm" . | fromYaml).enabled -}}true{{- end -}}
{{- end -}}

{{- define "migpool.armName" -}}
{{- include "migpool.suffixed" (dict "root" . "suffix" "arm") -}}
{{- end -}}

{{/* The ConfigMap in which people find the authority's certificate. */}}
{{- define "migpool.armAuthority" -}}
{{- include "migpool.suffixed" (dict "root" . "suffix" "arm-authority") -}}
{{- end -}}

{{/* The ServiceAccount whose rights a kubeconfig of `az aks get-credentials` has. */}}
{{- define "migpool.armUser" -}}
{{- include "migpool.suffixed" (dict "root" . "suffix" "arm-user") -}}
{{- end -}}

{{/* The names of the certificate, the Service's first. */}}
{{- define "migpool.armNames" -}}
{{- $service := printf "%s.%s.svc" (include "migpool.armName" .) (include "migpool.namespace" .) -}}
{{- concat (list $service (printf "%s.cluster.local" $service) "localhost" "127.0.0.1") (include "migpool.arm" . | fromYaml).names | uniq | toYaml -}}
{{- end -}}

{{- define "migpool.armRefusals" -}}
{{- $arm := include "migpool.arm" . | fromYaml -}}
{{- if and $arm.enabled (not (include "migpool.isOperated" .)) -}}
{{- fail "arm.enabled is true and operator.enabled is false: the front only writes down what is asked, and the operator does it. Set operator.enabled=true." -}}
{{- end -}}
{{- if and $arm.enabled (not (include "migpool.hasOperator" .)) -}}
{{- fail "arm.enabled is true and operator.replicas is 0: the front belongs to the release that brings the operator. Set arm.enabled=true there." -}}
{{- end -}}
{{- if and $arm.issuer.url (not $arm.issuer.audience) -}}
{{- fail "arm.issuer.url is set and arm.issuer.audience is not: say whom the issuer's tokens are for." -}}
{{- end -}}
{{- end -}}
