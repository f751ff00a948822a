{{- /*
What the operator may do where PgEventSources are. Least rights, on purpose: a Secret is read by its
name only, never listed; ConfigMaps are made (with SQL to run), never read or changed; no pods, no roles. test/artifacts/rbac.test.ts holds the
exact list.
*/ -}}
{{- define "pg-events.rules" -}}
- apiGroups: [pgevents.dev]
  resources: [pgeventsources]
  verbs: [get, list, watch, patch]
- apiGroups: [pgevents.dev]
  resources: [pgeventsources/status]
  verbs: [patch]
- apiGroups: [pgevents.dev]
  resources: [pgeventsources/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
- apiGroups: [""]
  resources: [services]
  verbs: [get]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}
