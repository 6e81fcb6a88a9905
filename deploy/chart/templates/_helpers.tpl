{{- define "nftproxy.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{- define "nftproxy.args" -}}
- run
- --config={{ include "nftproxy.configDir" . }}/config.conf
- --hostname-override=$(NODE_NAME)
- --probe-bind-address=127.0.0.1:{{ .Values.probePort }}
{{- if ne .Values.ownTables "auto" }}
- --own-tables={{ .Values.ownTables }}
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
