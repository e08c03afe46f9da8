{{/* Feature discovery, as two charts install it. Each has the same copy of this file; a test holds them to it. */}}

{{/* One DaemonSet. Arguments: root, name, component, settings {migStrategy, failOnInitError, noTimestamp, sleepInterval, output,
     securityContext, resources, hostNetwork}, and for a config file: configMap, config, configText, nodeSelector, affinity. */}}
{{- define "migpool.discoveryDaemonSet" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $interval := .settings.sleepInterval -}}
{{- if regexMatch "^[0-9]+$" (toString $interval) -}}
{{- $interval = printf "%ss" (toString $interval) -}}
{{- end -}}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  {{- include "migpool.metadata" (dict "root" $root "component" "feature-discovery" "name" .name) | nindent 2 }}
spec:
  selector:
    matchLabels:
      {{- include "migpool.selectorLabels" . | nindent 6 }}
  {{- with $values.updateStrategy }}
  updateStrategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  template:
    metadata:
      {{- include "migpool.podMetadata" . | nindent 6 }}
    spec:
      {{- include "migpool.podSpec" . | nindent 6 }}
      {{- if .settings.hostNetwork }}
      hostNetwork: true
      {{- end }}
      serviceAccountName: {{ include "migpool.discoveryAccount" $root }}
      automountServiceAccountToken: {{ ne .settings.output "file" }}
      containers:
        - name: feature-discovery
          {{- include "migpool.container" (dict "root" $root "securityContext" .settings.securityContext "resources" .settings.resources) | nindent 10 }}
          args:
            - feature-discovery
          env:
            {{- include "migpool.nodeEnv" $root | nindent 12 }}
            {{- include "migpool.namespaceEnv" $root | nindent 12 }}
            {{- include "migpool.env" (list
              (list "MIG_STRATEGY" .settings.migStrategy)
              (list "FAIL_ON_INIT_ERROR" .settings.failOnInitError)
              (list "GFD_NO_TIMESTAMP" .settings.noTimestamp)
              (list "GFD_SLEEP_INTERVAL" $interval)
              (list "GFD_MACHINE_TYPE_FILE" "/host/sys/class/dmi/id/product_name")
              (list "MIGPOOL_OUTPUT" .settings.output)
              (list "NVIDIA_DRIVER_ROOT" .settings.nvidiaDriverRoot)
              (list "CONFIG_FILE" (ternary (printf "/etc/migpool/config/%s" .config) "" (not (empty .config))))
            ) | trim | nindent 12 }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          volumeMounts:
            {{- include "migpool.driverMounts" $root | nindent 12 }}
            {{- if .config }}
            - name: config
              mountPath: /etc/migpool/config
              readOnly: true
            {{- end }}
            {{- if eq .settings.output "file" }}
            - name: features
              mountPath: /etc/kubernetes/node-feature-discovery/features.d
            {{- end }}
      volumes:
        {{- include "migpool.driverVolumes" $root | nindent 8 }}
        {{- if .config }}
        - name: config
          configMap:
            name: {{ .configMap }}
        {{- end }}
        {{- if eq .settings.output "file" }}
        - name: features
          hostPath:
            path: /etc/kubernetes/node-feature-discovery/features.d
            type: DirectoryOrCreate
        {{- end }}
      {{- include "migpool.placement" . | nindent 6 }}
{{- end -}}

{{/* A ServiceAccount that may label its own node, and nothing else. Argument: root. */}}
{{- define "migpool.discoveryRights" -}}
{{- $arguments := dict "root" .root "component" "feature-discovery" "name" (include "migpool.discoveryAccount" .root) -}}
{{- if eq .output "file" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "migpool.metadata" $arguments | nindent 2 }}
automountServiceAccountToken: false
{{- else -}}
{{ include "migpool.nodeRights" (merge (dict "rules" (include "migpool.discoveryRules" .)) $arguments) }}
{{- if eq .output "node-feature" }}
---
{{ include "migpool.nodeFeatureRights" $arguments }}
{{- end }}
{{- if include "migpool.hasAdmissionPolicy" .root }}
---
{{ include "migpool.admissionPolicy" $arguments }}
{{- if eq .output "node-feature" }}
---
{{ include "migpool.nodeFeaturePolicy" $arguments }}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "migpool.discoveryRules" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, patch]
{{- end -}}

{{/* Node Feature Discovery is a project of its own, and neither chart brings it. */}}
{{- define "migpool.refuseNfd" -}}
{{- $nfd := .Values.nfd | default dict -}}
{{- if or $nfd.deploy $nfd.enabled -}}
{{- fail "nfd.deploy (nfd.enabled) is true: this chart does not bring Node Feature Discovery, and labels nodes without it; set it to false, and install Node Feature Discovery from its own chart if you want its labels too." -}}
{{- end -}}
{{- range $key, $value := $nfd -}}
{{- if not (has $key (list "deploy" "enabled" "enableNodeFeatureApi" "nameOverride")) -}}
{{- if $value -}}
{{- fail (printf "nfd.%s is set: this chart does not bring Node Feature Discovery; move nfd.* to the values of its own chart." $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
