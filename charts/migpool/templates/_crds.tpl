{{/* Who has installed a CustomResourceDefinition, if that was not this release; nothing where it is this release's or not there.
     `helm template` sees no cluster. Arguments: root, name. */}}
{{- define "migpool.crdOwner" -}}
{{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .name -}}
{{- if $found -}}
{{- $annotations := $found.metadata.annotations | default dict -}}
{{- $labels := $found.metadata.labels | default dict -}}
{{- $release := get $annotations "meta.helm.sh/release-name" -}}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" -}}
{{- $own := and (eq $release .root.Release.Name) (eq $namespace .root.Release.Namespace) (eq (get $labels "app.kubernetes.io/managed-by") "Helm") -}}
{{- if not $own -}}
{{- if $release -}}
release {{ $release }} in namespace {{ $namespace }}
{{- else -}}
somebody without helm
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether this release is to install the definitions at all: "true" or nothing. */}}
{{- define "migpool.hasCrds" -}}
{{- $crds := mergeOverwrite (dict "install" true) (deepCopy (.Values.crds | default dict)) -}}
{{- if and (include "migpool.isOperated" .) $crds.install -}}true{{- end -}}
{{- end -}}

{{/* The definitions, each with this release's labels. */}}
{{- define "migpool.crds" -}}
{{- $root := . -}}
{{- $crds := mergeOverwrite (dict "keep" true) (deepCopy (.Values.crds | default dict)) -}}
{{- range $file, $_ := .Files.Glob "crds-files/*.yaml" -}}
{{- $crd := $root.Files.Get $file | fromYaml -}}
{{- $ofArm := has "migpool-arm" ($crd.spec.names.categories | default list) -}}
{{- if and (or (not $ofArm) (include "migpool.hasArm" $root)) (not (include "migpool.crdOwner" (dict "root" $root "name" $crd.metadata.name))) -}}
{{- $_ := set $crd.metadata "labels" (include "migpool.labels" (dict "root" $root "component" "operator") | fromYaml) -}}
{{- if $crds.keep -}}
{{- $_ := set $crd.metadata "annotations" (dict "helm.sh/resource-policy" "keep") -}}
{{- end }}
---
{{ toYaml $crd }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The definitions that are somebody else's, as YAML: name and who that is. */}}
{{- define "migpool.foreignCrds" -}}
{{- $root := . -}}
{{- $theirs := dict -}}
{{- if include "migpool.hasCrds" . -}}
{{- range $file, $_ := .Files.Glob "crds-files/*.yaml" -}}
{{- $name := ($root.Files.Get $file | fromYaml).metadata.name -}}
{{- with include "migpool.crdOwner" (dict "root" $root "name" $name) -}}
{{- $_ := set $theirs $name . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $theirs | toYaml -}}
{{- end -}}
