{{- define "peerd.fullname" -}}
{{ coalesce .Values.fullnameOverride .Values.nameOverride "peerd" | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "peerd.namespace" -}}
{{ .Values.peerd.namespace.k8s | default (printf "%s-ns" (include "peerd.fullname" .)) }}
{{- end }}

{{- define "peerd.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app: peerd
app.kubernetes.io/name: peerd
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The port of host:port. */}}
{{- define "peerd.port" -}}
{{ regexFind "[0-9]+$" . }}
{{- end }}

{{/* The host of host:port, without an IPv6 address' brackets; nothing where it means all addresses. */}}
{{- define "peerd.host" -}}
{{- $host := regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" -}}
{{- if not (has $host (list "0.0.0.0" "::")) }}{{ $host }}{{ end -}}
{{- end }}

{{/* A list, or a text separated by blanks, as the latter. */}}
{{- define "peerd.words" -}}
{{- if kindIs "slice" . }}{{ join " " . }}{{ else }}{{ regexReplaceAll "\\s+" (. | default "" | trim) " " }}{{ end -}}
{{- end }}

{{/* A scalar as text; Helm reads every number of a values file as floating point. */}}
{{- define "peerd.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{- define "peerd.authoritySecret" -}}
{{ .Values.peerd.tls.existingSecret | default (printf "%s-ca" (include "peerd.fullname" .)) }}
{{- end }}

{{- define "peerd.serfSecret" -}}
{{ .Values.peerd.serf.existingSecret | default (printf "%s-serf" (include "peerd.fullname" .)) }}
{{- end }}

{{- define "peerd.ownSerf" -}}
{{- if and (eq .Values.peerd.membership "serf") (not .Values.peerd.serf.rpcAddr) }}true{{ end -}}
{{- end }}

{{- define "peerd.join" -}}
{{- if .Values.peerd.join -}}
{{ include "peerd.words" .Values.peerd.join }}
{{- else -}}
{{- $door := ternary .Values.peerd.addresses.serf .Values.peerd.addresses.gossip (eq .Values.peerd.membership "serf") -}}
{{ include "peerd.fullname" . }}-members.{{ include "peerd.namespace" . }}.svc:{{ include "peerd.port" $door }}
{{- end -}}
{{- end }}

{{/* The images of `hosts`, as a regular expression: what --hosts would share, where that option is not given. */}}
{{- define "peerd.shareFilter" -}}
{{- $hosts := include "peerd.words" .Values.peerd.hosts | splitList " " | compact -}}
{{- if and $hosts (not (has "_default" $hosts)) -}}
{{- $names := list -}}
{{- range $hosts }}{{ $names = append $names (regexReplaceAll "^https?://" . "" | trimSuffix "/" | regexQuoteMeta) }}{{ end -}}
^({{ join "|" $names }})/
{{- end -}}
{{- end }}

{{/* The annotations of what `helm uninstall` does first; weights are the order. */}}
{{- define "peerd.hook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* What a command of peerd needs to know of its node. */}}
{{- define "peerd.nodeEnv" -}}
- name: PEERD_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: PEERD_ADVERTISE_HOST
  valueFrom:
    fieldRef:
      fieldPath: status.hostIP
{{- end }}

{{/*
Options of `peerd serve`. They are environment and not arguments, so that `kubectl exec … peerd doctor` and the other commands see
the same; an empty one is left out.
*/}}
{{- define "peerd.options" -}}
{{- $p := .Values.peerd -}}
{{- $options := dict
  "PEERD_LOG_LEVEL" (get (dict "warn" "warning" "fatal" "error" "panic" "error") $p.logLevel | default $p.logLevel)
  "PEERD_LOG_FORMAT" $p.logFormat
  "PEERD_HTTP_ADDR" $p.addresses.http
  "PEERD_METRICS_ADDR" $p.addresses.metrics
  "PEERD_PEER_ADDR" $p.addresses.peer
  "PEERD_GOSSIP_ADDR" $p.addresses.gossip
  "PEERD_MEMBERSHIP" $p.membership
  "PEERD_JOIN" (include "peerd.join" .)
  "PEERD_ZONE" $p.zone
  "PEERD_FILTER_FP_RATE" $p.filterFalsePositiveRate
  "PEERD_CACHE_DIR" "/var/lib/peerd"
  "PEERD_CACHE_SIZE" $p.cache.size
  "PEERD_CHUNK_SIZE" $p.cache.chunkSize
  "PEERD_PREFETCH" $p.cache.prefetch
  "PEERD_DEFAULT_REGISTRY" $p.upstream.defaultRegistry
  "PEERD_TAG_TTL" $p.upstream.tagTTL
  "PEERD_PULL_THROUGH" $p.upstream.pullThrough
  "PEERD_UPSTREAM_DENY_UNLISTED" $p.upstream.denyUnlisted
  "PEERD_CONSENT" $p.upstream.consent
  "PEERD_CONSENT_TTL" $p.upstream.consentTTL
  "PEERD_MIRROR_TIMEOUT" $p.upstream.mirrorTimeout
  "PEERD_CONTAINERD_SOCKET" $p.containerd.socket
  "PEERD_CONTAINERD_NAMESPACE" $p.containerd.namespace
  "PEERD_CONTAINERD_CONFIG" $p.containerd.config
  "PEERD_CONTAINERD_CONTENT_DIR" $p.containerd.contentDir
  "PEERD_HOSTS_DIR" $p.containerd.hostsDir
  "PEERD_SHARE_FILTER" $p.containerd.shareFilter
  "PEERD_UPLOAD_LIMIT" $p.uploads.limit
  "PEERD_MAX_UPLOADS" $p.uploads.max
  "PEERD_DRAIN_TIMEOUT" (printf "%ds" (int64 $p.drainSeconds))
-}}
{{- $allow := include "peerd.words" $p.upstream.allow -}}
{{- if $p.configureMirrors -}}
{{- $_ := set $options "PEERD_HOSTS" (include "peerd.words" $p.hosts) -}}
{{- else -}}
{{/* --hosts writes files; what else it says is said by these two. */}}
{{- $names := list $allow -}}
{{- range include "peerd.words" $p.hosts | splitList " " }}{{ if ne . "_default" }}{{ $names = append $names (regexReplaceAll "^https?://" . "" | trimSuffix "/") }}{{ end }}{{ end -}}
{{- $allow = $names | compact | join " " -}}
{{- $_ := set $options "PEERD_SHARE_FILTER" (coalesce $p.containerd.shareFilter (include "peerd.shareFilter" .)) -}}
{{- end -}}
{{- $_ := set $options "PEERD_UPSTREAM_ALLOW" $allow -}}
{{- $registries := list -}}
{{- range $name, $url := $p.upstream.registries }}{{ $registries = append $registries (printf "%s=%s" $name $url) }}{{ end -}}
{{- $_ := set $options "PEERD_REGISTRY" (join " " $registries) -}}
{{- if $p.tls.volume -}}
{{- $_ := merge $options (dict "PEERD_TLS_CA" "/run/peerd/tls/ca.crt" "PEERD_TLS_CERT" "/run/peerd/tls/tls.crt" "PEERD_TLS_KEY" "/run/peerd/tls/tls.key") -}}
{{- else -}}
{{- $_ := merge $options (dict "PEERD_TLS_CA" "/run/peerd/ca/ca.crt" "PEERD_TLS_CERT" "/run/peerd/tls/$(PEERD_NODE_NAME).crt" "PEERD_TLS_KEY" "/run/peerd/tls/$(PEERD_NODE_NAME).key") -}}
{{- end -}}
{{- if include "peerd.ownSerf" . -}}
{{- $_ := merge $options (dict "PEERD_SERF_BIND" $p.addresses.serf "PEERD_SERF_KEY_FILE" "/run/peerd/serf/serf.key") -}}
{{- else -}}
{{- $_ := set $options "PEERD_SERF_RPC_ADDR" $p.serf.rpcAddr -}}
{{- end -}}
{{- if $p.upstream.credentialsSecret }}{{ $_ := set $options "PEERD_REGISTRY_AUTH" "/run/peerd/credentials/config.json" }}{{ end -}}
{{- if $p.upstream.caConfigMap }}{{ $_ := set $options "PEERD_UPSTREAM_CA" "/run/peerd/upstream/ca.crt" }}{{ end -}}
{{- range $name := keys $options | sortAlpha }}
{{- $value := get $options $name }}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
- name: {{ $name }}
  value: {{ include "peerd.text" $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* A question at the second door: at the node's address, or at the one that the door is bound to. */}}
{{- define "peerd.probe" -}}
httpGet:
  path: {{ .path }}
  port: metrics
  {{- with include "peerd.host" .address }}
  host: {{ . | quote }}
  {{- end }}
{{- end }}

{{/* What every pod of the chart has to say about where it runs, given the values. */}}
{{- define "peerd.scheduling" }}
{{- with .Values.peerd.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.peerd.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.peerd.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.peerd.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.peerd.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
