{{- define "nftproxy.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* The part that selectors have: it can never change. */}}
{{- define "nftproxy.selectorLabels" -}}
app.kubernetes.io/name: nftproxy
{{- end }}

{{- define "nftproxy.labels" -}}
{{ include "nftproxy.selectorLabels" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: service-proxy
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What the targets of both kinds of monitor get. */}}
{{- define "nftproxy.relabelings" -}}
relabelings:
- sourceLabels: [__meta_kubernetes_pod_node_name]
  targetLabel: node
{{- with .Values.metrics.jobName }}
- targetLabel: job
  replacement: {{ . }}
{{- end }}
{{- if not .Values.metrics.keepBuildInfo }}
metricRelabelings:
# It has the version of Kubernetes' libraries; the alert KubeVersionMismatch would compare that with the cluster's.
- sourceLabels: [__name__]
  regex: kubernetes_build_info
  action: drop
{{- end }}
{{- end }}

{{- define "nftproxy.args" -}}
- run
- --config={{ include "nftproxy.configDir" . }}/config.conf
- --hostname-override=$(NODE_NAME)
- --probe-bind-address=127.0.0.1:{{ .Values.probePort }}
{{- if ne .Values.ownTables "auto" }}
- --own-tables={{ .Values.ownTables }}
{{- end }}
{{- with .Values.failover }}
{{- if .enabled }}
- --failover
{{- end }}
{{- if ne (int64 .threshold) 3 }}
- --failover-threshold={{ int64 .threshold }}
{{- end }}
{{- if ne (int64 .share) 50 }}
- --failover-share={{ int64 .share }}
{{- end }}
{{- end }}
{{- with .Values.scheduler }}
- --scheduler={{ . }}
{{- end }}
{{- with .Values.maglev }}
{{- if ne (int64 .tableSize) 1021 }}
- --maglev-table-size={{ int64 .tableSize }}
{{- end }}
{{- if .seed }}
- --maglev-seed={{ int64 .seed }}
{{- end }}
{{- end }}
{{- if .Values.logLevel }}
- --v={{ .Values.logLevel }}
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{- define "nftproxy.env" -}}
env:
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- if .Values.apiServer.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .Values.apiServer.host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .Values.apiServer.port | quote }}
{{- else if not .Values.kubeProxyConfigMap }}
# EDIT: the API server's own address, which works without nftproxy.
# - name: KUBERNETES_SERVICE_HOST
#   value: 192.0.2.10
# - name: KUBERNETES_SERVICE_PORT
#   value: "6443"
{{- end }}
{{- end }}

{{- define "nftproxy.configDir" -}}
{{ ternary "/var/lib/kube-proxy" "/etc/nftproxy" (not (empty .Values.kubeProxyConfigMap)) }}
{{- end }}

{{- define "nftproxy.volumeMounts" -}}
volumeMounts:
- name: config
  mountPath: {{ include "nftproxy.configDir" . }}
  readOnly: true
{{- end }}
