{{- define "pg-events.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- /* Short enough that every suffix in this chart stays within 63 characters. */ -}}
{{- define "pg-events.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" }}
{{- else if contains (include "pg-events.name" .) .Release.Name }}
{{- .Release.Name | trunc 45 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "pg-events.name" .) | trunc 45 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "pg-events.namespace" -}}
{{ default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "pg-events.operator" -}}
{{ include "pg-events.fullname" . }}-operator
{{- end }}

{{- /* Cluster-wide objects: two releases of one name in two namespaces must not share them. */ -}}
{{- define "pg-events.clusterName" -}}
{{ include "pg-events.namespace" . }}-{{ include "pg-events.operator" . }}
{{- end }}

{{- define "pg-events.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "pg-events.operator" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name must be set when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "pg-events.leaseName" -}}
{{- default (include "pg-events.operator" .) .Values.leaderElection.id }}
{{- end }}

{{- define "pg-events.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- define "pg-events.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pg-events.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "pg-events.ownLabels" -}}
{{ include "pg-events.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: pgevents
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* The chart's own labels win: the Deployment finds its pods by them. */ -}}
{{- define "pg-events.labels" -}}
{{ mergeOverwrite (deepCopy .Values.commonLabels) (include "pg-events.ownLabels" . | fromYaml) | toYaml }}
{{- end }}
