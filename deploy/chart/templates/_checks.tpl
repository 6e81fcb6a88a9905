{{/* Checks of values whose faults are better told in words than by a schema's regular expression. */}}

{{- define "nftproxy.v4" -}}
((25[0-5]|(2[0-4]|1?[0-9])?[0-9])(\.(25[0-5]|(2[0-4]|1?[0-9])?[0-9])){3})
{{- end }}

{{- define "nftproxy.v6" -}}
([0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,4}){2,7})
{{- end }}

{{/* The ranges of pods as kube-proxy's configuration has them: with commas between. */}}
{{- define "nftproxy.clusterCIDR" -}}
{{- $ranges := .Values.clusterCIDR }}
{{- if kindIs "string" $ranges }}
{{- $ranges = ternary (list) (splitList "," $ranges) (empty $ranges) }}
{{- end }}
{{- $range := printf "^(%s/(3[0-2]|[12]?[0-9])|%s/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$" (include "nftproxy.v4" .) (include "nftproxy.v6" .) }}
{{- range $ranges }}
{{- if not (regexMatch $range .) }}
{{- fail (printf "clusterCIDR: %q is no range of addresses such as 10.244.0.0/16 or fd00:10:244::/56; of several make a list: --set 'clusterCIDR={10.244.0.0/16,fd00:10:244::/56}'" .) }}
{{- end }}
{{- end }}
{{- join "," $ranges }}
{{- end }}

{{- define "nftproxy.check" -}}
{{- with .Values.apiServer.host }}
{{- if not (regexMatch (printf "^([0-9A-Za-z]([0-9A-Za-z.-]*[0-9A-Za-z])?|%s)$" (include "nftproxy.v6" $)) .) }}
{{- fail (printf "apiServer.host: %q is no address or host name; without https:// and without a port, which is apiServer.port" .) }}
{{- end }}
{{- end }}
{{- with .Values.metrics.bindAddress }}
{{- $port := "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})" }}
{{- if not (regexMatch (printf "^(%s|\\[%s\\]):%s$" (include "nftproxy.v4" $) (include "nftproxy.v6" $) $port) .) }}
{{- fail (printf "metrics.bindAddress: %q is no address with a port, such as 127.0.0.1:10249 or [::1]:10249" .) }}
{{- end }}
{{- end }}
{{- if and .Values.image.digest .Values.image.tag }}
{{- fail "image: tag and digest are both set, and the digest alone decides which image runs: leave one empty" }}
{{- end }}
{{- range $kind := list "serviceMonitor" "podMonitor" }}
{{- if (index $.Values $kind).enabled }}
{{- if or (hasPrefix "127." $.Values.metrics.bindAddress) (hasPrefix "[::1]" $.Values.metrics.bindAddress) }}
{{- fail (printf "%s.enabled: Prometheus cannot reach metrics.bindAddress on a loopback address: set it to 0.0.0.0:10249" $kind) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor and podMonitor are both enabled: each node would be read, and counted, twice; enable one" }}
{{- end }}
{{- end }}
