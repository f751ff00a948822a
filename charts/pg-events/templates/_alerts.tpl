{{- /*
The alerts, without the address of their runbooks: docs/runbooks has a page for each. Every expression goes by the labels
source_namespace and source; a worker gets them from its monitor. Of several workers one alone measures, hence max.
Nobody holds a callback that is suspended: its events are meant to wait.
*/ -}}
{{- define "pg-events.alerts" -}}
{{- $values := .Values.metrics.prometheusRule }}
- alert: PgEventsDeliveryLagging
  expr: |-
    max by (source_namespace, source, callback) (pgevents_oldest_pending_event_age_seconds) > {{ int $values.lagSeconds }}
    and max by (source_namespace, source, callback) (pgevents_callback_held) == 1
  for: 5m
  labels:
    severity: warning
  annotations:
    summary: Events for {{ `{{ $labels.source_namespace }}/{{ $labels.source }}` }} are late.
    description: >-
      The oldest event that callback {{ `{{ $labels.callback }}` }} has not got is {{ `{{ $value | humanizeDuration }}` }} old.
- alert: PgEventsDeliveryStalled
  expr: |-
    max by (source_namespace, source, callback) (pgevents_oldest_pending_event_age_seconds) > {{ int $values.stalledSeconds }}
    and max by (source_namespace, source, callback) (pgevents_callback_held) == 1
    and max by (source_namespace, source, callback) (pgevents_pending_events) > 0
    and sum by (source_namespace, source, callback) (increase(pgevents_deliveries_total[{{ int $values.stalledSeconds }}s])) == 0
  for: 1m
  labels:
    severity: critical
  annotations:
    summary: A callback of {{ `{{ $labels.source_namespace }}/{{ $labels.source }}` }} takes nothing.
    description: >-
      Callback {{ `{{ $labels.callback }}` }} has taken no event for {{ int $values.stalledSeconds }} seconds, while events wait
      for it; the oldest for {{ `{{ $value | humanizeDuration }}` }}.
- alert: PgEventsDeadLetters
  expr: |-
    sum by (source_namespace, source, callback) (increase(pgevents_dead_letters_total[15m])) > 0
  labels:
    severity: warning
  annotations:
    summary: Events of {{ `{{ $labels.source_namespace }}/{{ $labels.source }}` }} became dead letters.
    description: >-
      Callback {{ `{{ $labels.callback }}` }} did not take {{ `{{ $value | humanize }}` }} events in 15 minutes. They are kept until
      somebody delivers them again or discards them.
- alert: PgEventsBuildFailing
  expr: |-
    max by (source_namespace, source) (pgevents_source_condition{type="Built",status="False"}) == 1
  for: {{ int $values.notReadySeconds }}s
  labels:
    severity: warning
  annotations:
    summary: Capture of {{ `{{ $labels.source_namespace }}/{{ $labels.source }}` }} is not as its spec wants it.
    description: >-
      The condition Built is False. Its message says which table is not captured, and why.
- alert: PgEventsOperatorDown
  expr: |-
    absent(pgevents_leader{namespace={{ include "pg-events.namespace" . | quote }}} == 1)
  for: {{ int $values.operatorDownSeconds }}s
  labels:
    severity: critical
    namespace: {{ include "pg-events.namespace" . }}
  annotations:
    summary: No operator of pg-events leads.
    description: >-
      Workers go on, but no PgEventSource is built, changed or looked after by the operator in namespace
      {{ include "pg-events.namespace" . }}.
- alert: PgEventsOutboxGrowing
  expr: |-
    max by (source_namespace, source) (pgevents_outbox_bytes) > {{ int64 $values.outboxBytes }}
    and max by (source_namespace, source) (delta(pgevents_outbox_bytes[1h])) > 0
  for: 30m
  labels:
    severity: warning
  annotations:
    summary: The outbox of {{ `{{ $labels.source_namespace }}/{{ $labels.source }}` }} grows.
    description: >-
      It takes {{ `{{ $value | humanize1024 }}` }}B of the database's disk, and has been growing for an hour.
- alert: PgEventsSourceNotReady
  expr: |-
    max by (source_namespace, source) (pgevents_source_condition{type="Ready",status="True"}) == 0
    unless max by (source_namespace, source) (pgevents_source_suspended) == 1
  for: {{ int $values.notReadySeconds }}s
  labels:
    severity: warning
  annotations:
    summary: The PgEventSource {{ `{{ $labels.source_namespace }}/{{ $labels.source }}` }} is not Ready.
    description: >-
      The first condition that is not True has the reason.
- alert: PgEventsBacklogLimitReached
  expr: |-
    max by (source_namespace, source, limit) (pgevents_backlog_limit_reached) == 1
  for: 5m
  labels:
    severity: critical
  annotations:
    summary: The outbox of {{ `{{ $labels.source_namespace }}/{{ $labels.source }}` }} is at its limit.
    description: >-
      The limit {{ `{{ $labels.limit }}` }} of spec.capture.backlog is reached: the disk fills on, or events are lost, as its
      onLimit says.
- alert: PgEventsEventsLost
  expr: |-
    max by (source_namespace, source, callback) (delta(pgevents_lost_events[15m])) > 0
  labels:
    severity: critical
  annotations:
    summary: Events of {{ `{{ $labels.source_namespace }}/{{ $labels.source }}` }} were dropped.
    description: >-
      Callback {{ `{{ $labels.callback }}` }} will not get {{ `{{ $value | humanize }}` }} events: the outbox was at its limit.
{{- end }}
