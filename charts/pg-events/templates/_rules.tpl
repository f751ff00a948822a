{{- /*
What the operator may do where PgEventSources are. Least rights, on purpose: a Secret is read by its
name only, never listed; no pods, no config maps, no roles. test/artifacts/rbac.test.ts holds the
exact list.
*/ -}}
{{- define "pg-events.rules" -}}
- apiGroups: [pgevents.dev]
  resources: [pgeventsources]
  verbs: [get, list, watch, patch]
- apiGroups: [pgevents.dev]
  resources: [pgeventsources/status]
  verbs: [patch, update]
- apiGroups: [pgevents.dev]
  resources: [pgeventsources/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}
