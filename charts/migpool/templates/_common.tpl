{{/* What migpool's charts share. Every chart has the same copy of this file; a test holds them to it. */}}

{{- define "migpool.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of what a release installs: the release's own where it says what it is, else release and chart. */}}
{{- define "migpool.fullname" -}}
{{- $name := include "migpool.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The full name with a suffix, still a valid DNS label. Arguments: root, suffix. */}}
{{- define "migpool.suffixed" -}}
{{- $room := sub 62 (len .suffix) | int -}}
{{- printf "%s-%s" (include "migpool.fullname" .root | trunc $room | trimSuffix "-") .suffix -}}
{{- end -}}

{{/* The name of a resource that has no namespace: two releases of the same name in two namespaces must not meet. */}}
{{- define "migpool.clusterName" -}}
{{- printf "%s-%s" (include "migpool.namespace" .) (include "migpool.fullname" .) -}}
{{- end -}}

{{- define "migpool.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "migpool.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion | toString) -}}
{{- end -}}

{{/* Labels that select pods. Arguments: root, component. */}}
{{- define "migpool.selectorLabels" -}}
{{- if .root.Values.selectorLabelsOverride -}}
{{- toYaml .root.Values.selectorLabelsOverride }}
{{ else -}}
app.kubernetes.io/name: {{ include "migpool.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{ end -}}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of everything that a chart makes. Arguments: root, component. */}}
{{- define "migpool.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "migpool.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: migpool
{{- end -}}

{{/* metadata of something with a namespace. Arguments: root, component, name. */}}
{{- define "migpool.metadata" -}}
name: {{ .name }}
namespace: {{ include "migpool.namespace" .root }}
labels:
  {{- include "migpool.labels" . | nindent 2 }}
{{- end -}}

{{/* What every chart refuses; a sentence each. */}}
{{- define "migpool.refuse" -}}
{{- if and (eq (include "migpool.namespace" .) "default") (eq (toString .Values.allowDefaultNamespace) "false") -}}
{{- fail "allowDefaultNamespace is false, and the release would go to the namespace `default`: choose another with --namespace NAME --create-namespace, or set allowDefaultNamespace=true." -}}
{{- end -}}
{{- end -}}

{{/* metadata of the pods that run a node's part. Arguments: root, component, and checksum: a text that starts
     them anew when it changes. */}}
{{- define "migpool.podMetadata" -}}
labels:
  {{- include "migpool.selectorLabels" . | nindent 2 }}
{{- $annotations := deepCopy (.root.Values.podAnnotations | default dict) -}}
{{- if .checksum -}}
{{- $_ := set $annotations "checksum/config" (sha256sum .checksum) -}}
{{- end -}}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The pods that run a node's part, as far as they are alike. Argument: root. */}}
{{- define "migpool.podSpec" -}}
terminationGracePeriodSeconds: 60
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
securityContext:
  {{- if .root.Values.podSecurityContext }}
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
  {{- else }}
  seccompProfile:
    type: RuntimeDefault
  {{- end }}
{{- end -}}

{{/* The privileged container's: it opens device nodes that no device plugin can give it, being the device plugin. */}}
{{- define "migpool.privileged" -}}
privileged: true
readOnlyRootFilesystem: true
runAsUser: 0
runAsGroup: 0
{{- end -}}

{{/* What the level `restricted` of Pod Security asks of a container. */}}
{{- define "migpool.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Environment of the node's part that looks at the driver. Argument: root. */}}
{{- define "migpool.nodeEnv" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: RUST_LOG
  value: {{ include "migpool.logLevel" . }}
- name: MIGPOOL_HOST_ROOT
  value: /host
- name: MIGPOOL_LISTEN
  value: {{ printf "%s:%d" .Values.listen.address (int .Values.listen.port) | quote }}
{{- if .Values.runtimeClassName }}
- name: NVIDIA_VISIBLE_DEVICES
  value: all
- name: NVIDIA_DRIVER_CAPABILITIES
  value: {{ .Values.nvidiaDriverCapabilities | default "compute,utility" | quote }}
- name: NVIDIA_MIG_MONITOR_DEVICES
  value: all
{{- end }}
{{- end -}}

{{- define "migpool.logLevel" -}}
{{- $verbosity := int (.Values.logVerbosity | default 0) -}}
{{- if ge $verbosity 6 -}}trace{{- else if ge $verbosity 1 -}}debug{{- else -}}{{ .Values.logLevel }}{{- end -}}
{{- end -}}

{{/* Where a NodeFeature object goes. */}}
{{- define "migpool.namespaceEnv" -}}
- name: NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end -}}

{{/* Environment variables for the values that are set; none for null and "". Argument: a list of (name value). */}}
{{- define "migpool.env" -}}
{{- range . -}}
{{- $value := index . 1 -}}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: {{ index . 0 }}
  value: {{ toString $value | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The image, and what makes the container privileged or whatever `securityContext` says. Arguments: root, securityContext, resources. */}}
{{- define "migpool.container" -}}
image: {{ include "migpool.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy | default "IfNotPresent" }}
{{ include "migpool.probes" .root }}
securityContext:
  {{- if .securityContext }}
  {{- toYaml .securityContext | nindent 2 }}
  {{- else }}
  {{- include "migpool.privileged" .root | nindent 2 }}
  {{- end }}
resources:
  {{- .resources | default (include "migpool.resources" . | fromYaml) | toYaml | nindent 2 }}
{{- end -}}

{{- define "migpool.resources" -}}
requests:
  cpu: 10m
  memory: 24Mi
{{- end -}}

{{/* Liveness, readiness and the port for both. */}}
{{- define "migpool.probes" -}}
ports:
  - name: http
    containerPort: {{ int .Values.listen.port }}
livenessProbe:
  httpGet:
    path: /healthz
    port: http
  periodSeconds: 15
  timeoutSeconds: 5
  failureThreshold: 4
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}

{{/* The node's files that anything which loads the driver needs: the library from /host, device nodes from /dev. */}}
{{- define "migpool.driverMounts" -}}
- name: host
  mountPath: /host
  readOnly: true
  mountPropagation: HostToContainer
- name: dev
  mountPath: /dev
{{- end -}}

{{- define "migpool.driverVolumes" -}}
- name: host
  hostPath:
    path: /
    type: Directory
- name: dev
  hostPath:
    path: /dev
    type: Directory
{{- end -}}

{{/* A ServiceAccount and what it may do to nodes. Arguments: root, component, name, rules (YAML). */}}
{{- define "migpool.nodeRights" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "migpool.metadata" . | nindent 2 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ include "migpool.namespace" .root }}-{{ .name }}
  labels:
    {{- include "migpool.labels" . | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ include "migpool.namespace" .root }}-{{ .name }}
  labels:
    {{- include "migpool.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ include "migpool.namespace" .root }}-{{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ .name }}
    namespace: {{ include "migpool.namespace" .root }}
{{- end -}}

{{/* May write events about nodes, which live in the namespace `default`. Arguments: root, component, name. */}}
{{- define "migpool.eventRights" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ include "migpool.namespace" .root }}-{{ .name }}
  namespace: default
  labels:
    {{- include "migpool.labels" . | nindent 4 }}
rules:
  - apiGroups: [events.k8s.io]
    resources: [events]
    verbs: [create, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ include "migpool.namespace" .root }}-{{ .name }}
  namespace: default
  labels:
    {{- include "migpool.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ include "migpool.namespace" .root }}-{{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ .name }}
    namespace: {{ include "migpool.namespace" .root }}
{{- end -}}

{{/* May write NodeFeature objects of its own namespace. Arguments: root, component, name. */}}
{{- define "migpool.nodeFeatureRights" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "migpool.metadata" . | nindent 2 }}
rules:
  - apiGroups: [nfd.k8s-sigs.io]
    resources: [nodefeatures]
    verbs: [get, create, patch, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "migpool.metadata" . | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ .name }}
    namespace: {{ include "migpool.namespace" .root }}
{{- end -}}

{{/* Whether the cluster has ValidatingAdmissionPolicy and the release wants it: "true" or nothing. */}}
{{- define "migpool.hasAdmissionPolicy" -}}
{{- if and .Values.admissionPolicy.enabled (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy") -}}
true
{{- end -}}
{{- end -}}

{{/* What RBAC cannot say: a pod's token may change the node that the pod is on, and there only what is migpool's.
     Arguments: root, component, name. */}}
{{- define "migpool.admissionPolicy" -}}
{{- $policy := printf "%s-%s" (include "migpool.namespace" .root) .name -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ $policy }}-nodes
  labels:
    {{- include "migpool.labels" . | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - apiGroups: [""]
        apiVersions: [v1]
        operations: [UPDATE]
        resources: [nodes, nodes/status]
  matchConditions:
    {{- include "migpool.ofTheServiceAccount" . | nindent 4 }}
  variables:
    {{- include "migpool.ownNode" . | nindent 4 }}
    - name: labels
      expression: "has(object.metadata.labels) ? object.metadata.labels : {}"
    - name: oldLabels
      expression: "has(oldObject.metadata.labels) ? oldObject.metadata.labels : {}"
    - name: annotations
      expression: "has(object.metadata.annotations) ? object.metadata.annotations : {}"
    - name: oldAnnotations
      expression: "has(oldObject.metadata.annotations) ? oldObject.metadata.annotations : {}"
    - name: taints
      expression: "has(object.spec.taints) ? object.spec.taints.filter(t, t.key != 'migpool.dev/partitioning') : []"
    - name: oldTaints
      expression: "has(oldObject.spec.taints) ? oldObject.spec.taints.filter(t, t.key != 'migpool.dev/partitioning') : []"
    - name: conditions
      expression: "has(object.status.conditions) ? object.status.conditions.filter(c, !(c.type in ['MigLayoutReady', 'GPUsHealthy'])) : []"
    - name: oldConditions
      expression: "has(oldObject.status.conditions) ? oldObject.status.conditions.filter(c, !(c.type in ['MigLayoutReady', 'GPUsHealthy'])) : []"
    # Not typed: a map of quantities has no type that the checker knows.
    - name: status
      expression: "has(object.status) ? dyn(object.status) : dyn({})"
    - name: oldStatus
      expression: "has(oldObject.status) ? dyn(oldObject.status) : dyn({})"
  validations:
    - expression: "object.metadata.name == variables.node"
      messageExpression: "'migpool on node ' + (variables.node == '' ? '(unknown: the token names none)' : variables.node) + ' may not change node ' + object.metadata.name"
    - expression: >-
        variables.labels.all(k, k.startsWith('nvidia.com/') || k.startsWith('migpool.dev/')
        || (k in variables.oldLabels && variables.oldLabels[k] == variables.labels[k]))
        && variables.oldLabels.all(k, k.startsWith('nvidia.com/') || k.startsWith('migpool.dev/') || k in variables.labels)
      message: migpool may only change labels under nvidia.com/ and migpool.dev/
    - expression: >-
        variables.annotations.all(k, k.startsWith('nvidia.com/') || k.startsWith('migpool.dev/')
        || (k in variables.oldAnnotations && variables.oldAnnotations[k] == variables.annotations[k]))
        && variables.oldAnnotations.all(k, k.startsWith('nvidia.com/') || k.startsWith('migpool.dev/') || k in variables.annotations)
      message: migpool may only change annotations under nvidia.com/ and migpool.dev/
    - expression: >-
        variables.taints.all(t, t in variables.oldTaints) && variables.oldTaints.all(t, t in variables.taints)
      message: migpool may only change the taint migpool.dev/partitioning
    - expression: >-
        (has(object.spec.unschedulable) && object.spec.unschedulable)
        == (has(oldObject.spec.unschedulable) && oldObject.spec.unschedulable)
      message: migpool may not cordon or uncordon a node
    - expression: >-
        variables.conditions.all(c, c in variables.oldConditions) && variables.oldConditions.all(c, c in variables.conditions)
      message: migpool may only change the conditions MigLayoutReady and GPUsHealthy
    - expression: >-
        ['capacity', 'allocatable'].all(field, (field in variables.status) == (field in variables.oldStatus)
        && (!(field in variables.status) || variables.status[field] == variables.oldStatus[field]))
      message: migpool may not change a node's capacity or allocatable, which are the kubelet's
---
{{ include "migpool.policyBinding" (dict "root" .root "component" .component "policy" (printf "%s-nodes" $policy)) }}
{{- end -}}

{{/* Events about the pod's own node only. Arguments: root, component, name. */}}
{{- define "migpool.eventPolicy" -}}
{{- $policy := printf "%s-%s-events" (include "migpool.namespace" .root) .name -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ $policy }}
  labels:
    {{- include "migpool.labels" . | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - apiGroups: [events.k8s.io]
        apiVersions: [v1]
        operations: [CREATE, UPDATE]
        resources: [events]
  matchConditions:
    {{- include "migpool.ofTheServiceAccount" . | nindent 4 }}
  variables:
    {{- include "migpool.ownNode" . | nindent 4 }}
  validations:
    - expression: "has(object.regarding) && object.regarding.kind == 'Node' && object.regarding.name == variables.node"
      message: migpool may only write events about the node that it is on
---
{{ include "migpool.policyBinding" (dict "root" .root "component" .component "policy" $policy) }}
{{- end -}}

{{/* The pod's own NodeFeature object only. Arguments: root, component, name. */}}
{{- define "migpool.nodeFeaturePolicy" -}}
{{- $policy := printf "%s-%s-nodefeatures" (include "migpool.namespace" .root) .name -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ $policy }}
  labels:
    {{- include "migpool.labels" . | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - apiGroups: [nfd.k8s-sigs.io]
        apiVersions: ["*"]
        operations: [CREATE, UPDATE, DELETE]
        resources: [nodefeatures]
  matchConditions:
    {{- include "migpool.ofTheServiceAccount" . | nindent 4 }}
  variables:
    {{- include "migpool.ownNode" . | nindent 4 }}
  validations:
    - expression: "(request.operation == 'DELETE' ? oldObject.metadata.name : object.metadata.name) == 'nvidia-features-for-' + variables.node"
      message: migpool may only write the NodeFeature of the node that it is on
---
{{ include "migpool.policyBinding" (dict "root" .root "component" .component "policy" $policy) }}
{{- end -}}

{{- define "migpool.ofTheServiceAccount" -}}
- name: of-the-service-account
  expression: "request.userInfo.username == 'system:serviceaccount:{{ include "migpool.namespace" .root }}:{{ .name }}'"
{{- end -}}

{{/* The node that the token's pod is on; the API server puts it into every token that it gives to a pod. */}}
{{- define "migpool.ownNode" -}}
- name: node
  expression: >-
    has(request.userInfo.extra) && 'authentication.kubernetes.io/node-name' in request.userInfo.extra
    ? request.userInfo.extra['authentication.kubernetes.io/node-name'][0] : ''
{{- end -}}

{{- define "migpool.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .policy }}
  labels:
    {{- include "migpool.labels" . | nindent 4 }}
spec:
  policyName: {{ .policy }}
  validationActions: [Deny]
{{- end -}}

{{/* helm deletes RBAC together with the DaemonSet, and pods that end could no longer take their labels and taint from
     the node. So a Job takes the DaemonSet away first and waits for its pods. Arguments: root, daemonsets. */}}
{{- define "migpool.uninstallHook" -}}
{{- $name := include "migpool.suffixed" (dict "root" .root "suffix" "uninstall") -}}
{{- $meta := dict "root" .root "component" "uninstall" "name" $name -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "migpool.metadata" $meta | nindent 2 }}
  annotations:
    {{- include "migpool.uninstallAnnotations" "-10" | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "migpool.metadata" $meta | nindent 2 }}
  annotations:
    {{- include "migpool.uninstallAnnotations" "-10" | nindent 4 }}
rules:
  - apiGroups: [apps]
    resources: [daemonsets]
    resourceNames: [{{ join ", " .daemonsets }}]
    verbs: [get, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "migpool.metadata" $meta | nindent 2 }}
  annotations:
    {{- include "migpool.uninstallAnnotations" "-5" | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $name }}
    namespace: {{ include "migpool.namespace" .root }}
---
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "migpool.metadata" $meta | nindent 2 }}
  annotations:
    {{- include "migpool.uninstallAnnotations" "0" | nindent 4 }}
spec:
  backoffLimit: 2
  activeDeadlineSeconds: 240
  template:
    metadata:
      labels:
        {{- include "migpool.labels" $meta | nindent 8 }}
    spec:
      restartPolicy: Never
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: true
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      # Rather where the image is already.
      affinity:
        podAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: kubernetes.io/hostname
                labelSelector:
                  matchLabels:
                    app.kubernetes.io/name: {{ include "migpool.name" .root }}
                    app.kubernetes.io/instance: {{ .root.Release.Name }}
      tolerations:
        - operator: Exists
          effect: NoSchedule
      securityContext:
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: uninstall
          image: {{ include "migpool.image" .root }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy | default "IfNotPresent" }}
          args:
            - retire
            - --namespace={{ include "migpool.namespace" .root }}
            {{- range .daemonsets }}
            - --daemonset={{ . }}
            {{- end }}
            - --timeout=90s
          securityContext:
            {{- include "migpool.restricted" .root | nindent 12 }}
          resources:
            requests:
              cpu: 10m
              memory: 16Mi
{{- end -}}

{{- define "migpool.uninstallAnnotations" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* What a pod of `helm test` is. Arguments: root, name. */}}
{{- define "migpool.testMetadata" -}}
name: {{ .name }}
namespace: {{ include "migpool.namespace" .root }}
labels:
  {{- include "migpool.labels" (dict "root" .root "component" "test") | nindent 2 }}
annotations:
  helm.sh/hook: test
  # Its pod stays when it has succeeded: `helm test --logs` reads it afterwards.
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{- define "migpool.testSpec" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* Two device plugins on one node take each other's resources away. helm can see the cluster at install and upgrade,
     and sees nothing in `helm template`. */}}
{{- define "migpool.conflicts" -}}
{{- if .Values.conflictCheck -}}
{{- $root := . -}}
{{- range (lookup "apps/v1" "DaemonSet" "" "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- $annotations := .metadata.annotations | default dict -}}
{{- $own := and (eq (get $annotations "meta.helm.sh/release-name") $root.Release.Name) (eq (get $annotations "meta.helm.sh/release-namespace") $root.Release.Namespace) -}}
{{- $ours := and (eq (get $labels "app.kubernetes.io/part-of") "migpool") (has (get $labels "app.kubernetes.io/component") (list "agent" "device-plugin")) -}}
{{- $theirs := and (ne (get $labels "app.kubernetes.io/part-of") "migpool") (contains "nvidia-device-plugin" .metadata.name) (not (contains "mps-control" .metadata.name)) (not (contains "gpu-feature-discovery" .metadata.name)) -}}
{{- if and (not $own) (not .metadata.deletionTimestamp) (or $ours $theirs) -}}
{{- $theirSelector := .spec.template.spec.nodeSelector | default dict -}}
{{- $apart := false -}}
{{- range $key, $value := $root.Values.nodeSelector | default dict -}}
{{- if and (hasKey $theirSelector $key) (ne (get $theirSelector $key) (toString $value)) -}}
{{- $apart = true -}}
{{- end -}}
{{- end -}}
{{- if not $apart -}}
{{- fail (printf "DaemonSet %s/%s advertises GPUs already, and two device plugins on a node take each other's resources away: uninstall it, or give both a nodeSelector that keeps them apart, or set conflictCheck=false if you know that they never share a node." .metadata.namespace .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where the pods of the two charts with NVIDIA's names go. Arguments: root, nodeSelector and affinity where they are not the
     values', component. */}}
{{- define "migpool.placement" -}}
nodeSelector:
  kubernetes.io/os: linux
  {{- with .root.Values.nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .affinity | default .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
tolerations:
  {{- with .root.Values.tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  # The node is being partitioned; what partitions it and what tells of it must be there.
  - key: migpool.dev/partitioning
    operator: Exists
    effect: NoSchedule
{{- end -}}

{{/* The value deviceListStrategy as one text, checked. */}}
{{- define "migpool.deviceListStrategy" -}}
{{- $text := .Values.deviceListStrategy | default "" -}}
{{- if kindIs "slice" $text -}}
{{- $text = join "," $text -}}
{{- end -}}
{{- range ternary (list) (splitList "," $text) (empty $text) -}}
{{- if not (has . (list "envvar" "volume-mounts" "cdi-annotations" "cdi-cri")) -}}
{{- fail (printf "deviceListStrategy: `%s` is none of cdi-cri, cdi-annotations, envvar and volume-mounts." .) -}}
{{- end -}}
{{- end -}}
{{- if and (contains "cdi-cri" $text) (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "deviceListStrategy is %s, and the kubelet understands cdi-cri from Kubernetes 1.29 on; this cluster is %s: set deviceListStrategy=cdi-annotations or envvar." $text .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- $text -}}
{{- end -}}
