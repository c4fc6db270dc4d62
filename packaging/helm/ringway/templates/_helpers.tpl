{{- define "ringway.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* The release, and the chart if the release is not named after it. */ -}}
{{- define "ringway.fullname" -}}
{{- $name := include "ringway.name" . -}}
{{- $both := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $both | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "ringway.selector" -}}
app.kubernetes.io/name: {{ include "ringway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ringway.labels" -}}
{{ include "ringway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "ringway.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "ringway.fullname" .) "default") -}}
{{- end -}}

{{- /* Keys of one table: what JSON writes of a word, number, boolean or list is TOML too. */ -}}
{{- define "ringway.keys" -}}
{{- range $key, $value := . }}
{{ $key }} = {{ toJson $value }}
{{- end -}}
{{- end -}}

{{- define "ringway.configuration" -}}
{{- range .Values.listeners -}}
{{- if not (contains (printf ":%v\"" .port) $.Values.config) -}}
{{- fail (printf "listener %s: nothing in `config` is bound to port %v" .name .port) -}}
{{- end -}}
{{- end -}}
[process]
# As many as resources.requests.cpu: "auto" would be one per CPU of the node, as there is no limit on CPUs.
workers = {{ .Values.workers }}
# Other pods run on the same CPUs.
pin_workers = false
# New connections are served for this long after TERM, until every node knows that this pod leaves the Service.
shutdown_delay = "{{ .Values.shutdown.delay }}s"
shutdown_grace = "{{ .Values.shutdown.grace }}s"
{{- include "ringway.keys" .Values.settings.process }}

[admin]
socket = "/run/ringway/admin.sock"
# /live and /ready alone, for the node.
probes = "0.0.0.0:{{ .Values.probes.port }}"
{{- if .Values.metrics.enabled }}
# For Prometheus. The status page and the read-only API are here too: a network policy says for whom.
listen = "0.0.0.0:{{ .Values.metrics.port }}"
{{- end }}
{{- include "ringway.keys" .Values.settings.admin }}
{{ range $table, $keys := omit .Values.settings "process" "admin" }}
[{{ $table }}]
{{- include "ringway.keys" $keys }}
{{ end }}
{{ .Values.config | trim }}
{{- end -}}
