{{/*
The specification of a pod. Takes a dict: `root` the chart's context, `role` the values of `whole` or `features`, `key` the entry of the
Secret with its keys, `data` the volume of its data folder as YAML or empty where a claim makes it, `webhooks` whether it sends them.
*/}}
{{- define "headstart.pod" -}}
{{- $values := .root.Values -}}
{{- $options := include "headstart.options" . | fromYaml -}}
{{- $scheme := ternary ", scheme: HTTPS" "" (not (empty (index $options "tls-certificate"))) -}}
automountServiceAccountToken: false
# Kubernetes would set HEADSTART_FEATURES_SERVICE_HOST and the like, which are no options: the start would be refused.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ add $values.drain.noticeSeconds (mul 2 $values.drain.seconds) 10 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with $values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: headstart
    image: "{{ $values.image.repository }}:{{ $values.image.tag | default .root.Chart.AppVersion }}"
    imagePullPolicy: {{ $values.image.pullPolicy }}
    env:
      - name: HEADSTART_API_KEYS
        valueFrom:
          secretKeyRef:
            name: {{ include "headstart.secret" .root }}
            key: {{ .key }}
      {{- if .webhooks }}
      - name: HEADSTART_WEBHOOK_SECRET
        valueFrom:
          secretKeyRef:
            name: {{ include "headstart.secret" .root }}
            key: webhook-secret
            optional: true
      {{- end }}
      - name: HEADSTART_DRAIN_NOTICE_MS
        value: {{ mul 1000 $values.drain.noticeSeconds | quote }}
      - name: HEADSTART_DRAIN_SECONDS
        value: {{ int $values.drain.seconds | quote }}
      {{- range $option, $value := $options }}
      - name: HEADSTART_{{ $option | upper | replace "-" "_" }}
        value: {{ $value | quote }}
      {{- end }}
      {{- with $values.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - name: http
        containerPort: 8080
    # It listens once a store that a crash left behind is mended. Loading comes then and may take as long as it needs: only
    # readiness waits for it.
    startupProbe:
      httpGet: { path: /livez, port: http{{ $scheme }} }
      periodSeconds: 2
      timeoutSeconds: 3
      failureThreshold: 150
    readinessProbe:
      httpGet: { path: /readyz, port: http{{ $scheme }} }
      periodSeconds: 5
      timeoutSeconds: 3
      failureThreshold: 2
    # A minute of silence: a server whose connections are all taken answers no probe either, and a restart would not help it.
    livenessProbe:
      httpGet: { path: /livez, port: http{{ $scheme }} }
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    resources:
      {{- toYaml .role.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
    volumeMounts:
      - name: data
        mountPath: /headstart/data
      - name: temporary
        mountPath: /tmp
      {{- with .role.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  # SQLite writes there what a large change needs in between.
  - name: temporary
    emptyDir: { sizeLimit: 256Mi }
  {{- with .data }}
  - name: data
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .role.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .role.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .role.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .role.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
