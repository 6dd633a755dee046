{{/* The release's name, with the chart's unless it holds it. */}}
{{- define "headstart.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Labels that pods are selected by; they never change. */}}
{{- define "headstart.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "headstart.labels" -}}
{{ include "headstart.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/*
Options of a pod: its own, then those of all pods. Takes the dict that `headstart.pod` takes. Without webhooks there is no secret to
sign them with, and a server that has their hosts does not start.
*/}}
{{- define "headstart.options" -}}
{{- $options := merge (dict) .role.options .root.Values.options }}
{{- if not .webhooks }}{{ $options = omit $options "webhook-hosts" "webhook-url" }}{{ end }}
{{- toYaml $options }}
{{- end }}

{{/* The Secret with the keys: the one the chart makes where keys are given, else the one that exists. */}}
{{- define "headstart.secret" -}}
{{- if or .Values.keys.apiKeys .Values.keys.featuresApiKeys }}{{ include "headstart.name" . }}-made-keys{{ else }}{{ .Values.keys.existingSecret }}{{ end }}
{{- end }}
