{{/* The configurations, the default first, as JSON: {"configs": [{name, text, default}], "configMap": name}. `name` is "" for
     none. What cannot be is refused here. */}}
{{- define "plugin.configs" -}}
{{- $config := .Values.config | default dict -}}
{{- $map := $config.map | default dict -}}
{{- $fallbacks := $config.fallbackStrategies | default list -}}
{{- if and $config.name $map -}}
{{- fail "config.name and config.map are both set: name means a ConfigMap that is there already, map makes one; keep one of them." -}}
{{- end -}}
{{- if $config.name -}}
{{- if not $config.default -}}
{{- fail (printf "config.name is %s, and config.default is empty: say which of its configurations the nodes have." $config.name) -}}
{{- end -}}
{{- dict "configMap" $config.name "configs" (list (dict "name" $config.default "text" "" "default" true)) | toJson -}}
{{- else if not $map -}}
{{- if $config.default -}}
{{- fail (printf "config.default is %s, and there are no configurations: set config.map or config.name." $config.default) -}}
{{- end -}}
{{- dict "configMap" "" "configs" (list (dict "name" "" "text" "" "default" true)) | toJson -}}
{{- else -}}
{{- $default := $config.default | default "" -}}
{{- $found := not (empty $default) -}}
{{- if and $found (not (hasKey $map $default)) -}}
{{- fail (printf "config.default is %s, and config.map has no such configuration; it has %s." $default (keys $map | sortAlpha | join ", ")) -}}
{{- end -}}
{{- range $fallbacks -}}
{{- if not $found -}}
{{- if and (eq . "named") (hasKey $map "default") -}}
{{- $default = "default" -}}{{- $found = true -}}
{{- else if and (eq . "single") (eq (len $map) 1) -}}
{{- $default = keys $map | first -}}{{- $found = true -}}
{{- else if eq . "empty" -}}
{{- $found = true -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not $found -}}
{{- fail (printf "config.map has %s, and none of them is the default: set config.default, or call one of them `default`." (keys $map | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $configs := list (dict "name" $default "default" true "text" (ternary "" (include "plugin.configText" (dict "root" . "name" $default)) (empty $default))) -}}
{{- range $name := keys $map | sortAlpha -}}
{{- if ne $name $default -}}
{{- $configs = append $configs (dict "name" $name "default" false "text" (include "plugin.configText" (dict "root" $ "name" $name))) -}}
{{- end -}}
{{- end -}}
{{- dict "configMap" (include "migpool.suffixed" (dict "root" . "suffix" "configs")) "configs" $configs | toJson -}}
{{- end -}}
{{- end -}}

{{/* A configuration's text, checked, with the chart's defaults where neither it nor a value says anything.
     Arguments: root, name. */}}
{{- define "plugin.configText" -}}
{{- $text := get .root.Values.config.map .name -}}
{{- $file := $text | fromYaml -}}
{{- if hasKey $file "Error" -}}
{{- fail (printf "config.map.%s is not YAML: %s" .name $file.Error) -}}
{{- end -}}
{{- if ne (toString $file.version) "v1" -}}
{{- fail (printf "config.map.%s: `version: v1` is missing." .name) -}}
{{- end -}}
{{- if $file.sharing -}}
{{- fail (printf "config.map.%s: sharing of GPUs (timeSlicing, mps) is not supported; remove the section `sharing`, and use MIG for parts of a GPU." .name) -}}
{{- end -}}
{{- if $file.imex -}}
{{- fail (printf "config.map.%s: IMEX channels are not supported; remove the section `imex`." .name) -}}
{{- end -}}
{{- $flags := $file.flags | default dict -}}
{{- range $flag := list "gdrcopyEnabled" "gdsEnabled" "mofedEnabled" -}}
{{- if eq (toString (get $flags $flag)) "true" -}}
{{- fail (printf "config.map.%s: flags.%s is true, and it is not supported; set it to false." $.name $flag) -}}
{{- end -}}
{{- end -}}
{{- if and $flags.migStrategy (not (has $flags.migStrategy (list "none" "single" "mixed"))) -}}
{{- fail (printf "config.map.%s: flags.migStrategy is %s; it is none, single or mixed." .name (toString $flags.migStrategy)) -}}
{{- end -}}
{{- $plugin := $flags.plugin | default dict -}}
{{- $missing := dict -}}
{{- if and (not $plugin.deviceListStrategy) (not .root.Values.deviceListStrategy) -}}
{{- $_ := set $missing "plugin" (dict "deviceListStrategy" "cdi-cri") -}}
{{- end -}}
{{- if and (not $flags.nvidiaDriverRoot) (not .root.Values.nvidiaDriverRoot) -}}
{{- $_ := set $missing "nvidiaDriverRoot" "auto" -}}
{{- end -}}
{{- if $missing -}}
{{- $_ := set $file "flags" (mergeOverwrite (deepCopy $flags) $missing) -}}
{{- toYaml $file -}}
{{- else -}}
{{- $text -}}
{{- end -}}
{{- end -}}

{{/* What may be added to a DaemonSet's name for a configuration. */}}
{{- define "plugin.configSuffix" -}}
{{- $suffix := regexReplaceAll "[^a-z0-9]+" (lower .) "-" | trimAll "-" -}}
{{- if or (gt (len $suffix) 24) (ne $suffix .) -}}
{{- $suffix = printf "%s-%s" (trunc 16 $suffix | trimSuffix "-") (sha256sum . | trunc 6) -}}
{{- end -}}
{{- $suffix -}}
{{- end -}}

{{/* The affinity of the default configuration's DaemonSet: the values', without the nodes that have chosen another one.
     Arguments: root, others (names). As YAML; empty when the values' will do. */}}
{{- define "plugin.defaultAffinity" -}}
{{- if .others -}}
{{- $other := dict "key" "nvidia.com/device-plugin.config" "operator" "NotIn" "values" .others -}}
{{- $affinity := deepCopy (.root.Values.affinity | default dict) -}}
{{- $node := $affinity.nodeAffinity | default dict -}}
{{- $required := $node.requiredDuringSchedulingIgnoredDuringExecution | default dict -}}
{{- $terms := list -}}
{{- range $required.nodeSelectorTerms | default (list dict) -}}
{{- $term := deepCopy . -}}
{{- $terms = append $terms (set $term "matchExpressions" (append ($term.matchExpressions | default list) $other)) -}}
{{- end -}}
{{- $_ := set $node "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) -}}
{{- toYaml (set $affinity "nodeAffinity" $node) -}}
{{- end -}}
{{- end -}}

{{/* What differs between the DaemonSets of the configurations, as JSON: [{suffix, component, config, text, nodeSelector,
     affinity}]. Argument: root. */}}
{{- define "plugin.variants" -}}
{{- $all := include "plugin.configs" . | fromJson -}}
{{- $others := list -}}
{{- range $all.configs -}}{{- if not .default -}}{{- $others = append $others .name -}}{{- end -}}{{- end -}}
{{- $variants := list -}}
{{- range $all.configs -}}
{{- $variant := dict "config" .name "text" .text "configMap" $all.configMap -}}
{{- if .default -}}
{{- $_ := set $variant "suffix" "" -}}
{{- $_ := set $variant "affinity" (include "plugin.defaultAffinity" (dict "root" $ "others" $others) | fromYaml) -}}
{{- else -}}
{{- $_ := set $variant "suffix" (include "plugin.configSuffix" .name) -}}
{{- $_ := set $variant "nodeSelector" (dict "nvidia.com/device-plugin.config" .name) -}}
{{- end -}}
{{- $variants = append $variants $variant -}}
{{- end -}}
{{- toJson (dict "variants" $variants) -}}
{{- end -}}
