{{- /* How a monitor scrapes: a dict of root, monitor (its values) and relabelings (the chart's own). */ -}}
{{- define "pg-events.endpoint" -}}
port: metrics
path: /metrics
interval: {{ .monitor.interval }}
{{- with concat .relabelings .monitor.relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "pg-events.monitorLabels" -}}
{{ mergeOverwrite (include "pg-events.labels" .root | fromYaml) .monitor.labels | toYaml }}
{{- end }}
