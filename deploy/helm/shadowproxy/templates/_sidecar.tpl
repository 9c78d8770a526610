{{- /*
For charts of your own, which depend on this one with `shadowproxy.enabled: false`:

  initContainers:
    {{- include "shadowproxy.sidecar" (dict "root" .) | nindent 8 }}
  volumes:
    {{- include "shadowproxy.volumes" (dict "root" . "config" "my-app-shadowproxy") | nindent 8 }}

`config` is the ConfigMap with the file config.yaml, `root` the context of the calling chart. The values are those below
`shadowproxy` in the calling chart.
*/ -}}

{{- define "shadowproxy.name" -}}
{{- $name := contains "shadowproxy" .Release.Name | ternary .Release.Name (printf "%s-shadowproxy" .Release.Name) -}}
{{- $name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "shadowproxy.selector" -}}
app.kubernetes.io/name: shadowproxy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "shadowproxy.labels" -}}
{{ include "shadowproxy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The values of this chart, in it and in one that depends on it; and its version. */ -}}
{{- define "shadowproxy.values" -}}
{{- if eq .Chart.Name "shadowproxy" }}{{ toJson .Values }}{{ else }}{{ toJson .Values.shadowproxy }}{{ end }}
{{- end }}

{{- define "shadowproxy.version" -}}
{{- if eq .Chart.Name "shadowproxy" }}{{ .Chart.AppVersion }}{{ else }}{{ .Subcharts.shadowproxy.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "shadowproxy.container" -}}
{{- $values := include "shadowproxy.values" .root | fromJson -}}
name: shadowproxy
{{- with $values.image }}
{{- if .digest }}
image: {{ printf "%s@%s" .repository .digest | quote }}
{{- else }}
image: {{ printf "%s:%s" .repository (.tag | default (include "shadowproxy.version" $.root)) | quote }}
{{- end }}
imagePullPolicy: {{ .pullPolicy }}
{{- end }}
env:
  # Without this secret the admin port allows no changes and shows no records.
  - name: SHADOWPROXY_ADMIN_TOKEN
    valueFrom:
      secretKeyRef: {name: {{ $values.adminTokenSecret.name }}, key: {{ $values.adminTokenSecret.key }}, optional: true}
  {{- with $values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - {name: sp-http, containerPort: 8080}
  - {name: sp-admin, containerPort: 9901}
startupProbe:
  httpGet: {path: /readyz, port: sp-admin}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 30
# /readyz depends on no shadow and no disk.
readinessProbe:
  httpGet: {path: /readyz, port: sp-admin}
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  httpGet: {path: /healthz, port: sp-admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
resources:
  {{- toYaml $values.resources | nindent 2 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  # The whole directory: a file mounted by subPath is never updated.
  - {name: shadowproxy-config, mountPath: /etc/shadowproxy, readOnly: true}
  - {name: shadowproxy-log, mountPath: /var/lib/shadowproxy}
{{- end }}

{{- /* Among initContainers: it starts before the containers, runs beside them, and is stopped after them. */ -}}
{{- define "shadowproxy.sidecar" -}}
- restartPolicy: Always
  {{- include "shadowproxy.container" . | nindent 2 }}
{{- end }}

{{- define "shadowproxy.volumes" -}}
{{- $values := include "shadowproxy.values" .root | fromJson -}}
- name: shadowproxy-config
  configMap: {name: {{ .config }}}
- name: shadowproxy-log
  emptyDir: {sizeLimit: {{ $values.log.sizeLimit }}}
{{- end }}
