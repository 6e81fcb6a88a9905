{{- define "nftproxy.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{- define "nftproxy.args" -}}
- run
- --hostname-override=$(NODE_NAME)
{{- if .Values.kubeProxyConfigMap }}
- --config=/var/lib/kube-proxy/config.conf
{{- else if .Values.clusterCIDR }}
- --cluster-cidr={{ .Values.clusterCIDR }} # EDIT: the pods' range; of a dual-stack cluster both, with a comma
{{- end }}
{{- if ne .Values.metrics.bindAddress "127.0.0.1:10249" }}
- --metrics-bind-address={{ .Values.metrics.bindAddress }}
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

{{- define "nftproxy.volumeMounts" -}}
{{- if .Values.kubeProxyConfigMap -}}
volumeMounts:
- name: kube-proxy
  mountPath: /var/lib/kube-proxy
  readOnly: true
{{- end }}
{{- end }}
