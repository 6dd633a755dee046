"""The Helm chart and the Kubernetes manifests: valid, saying the same, asking no right that serving does not need.

No cluster is needed. Helm, kubectl and Kubernetes' schemas are brought by `tools/deploy/fetch.py`; what needs them is skipped
without them.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import jsonschema
import pytest
import referencing
import yaml
from project import GUIDE, ROOT, alerts, families, metrics_in, options, parsed, text

sys.path.insert(0, str(ROOT / "tools" / "deploy"))

import fetch  # noqa: E402
import manifests  # noqa: E402

needs_helm = pytest.mark.skipif(not fetch.HELM.exists(), reason="helm is not there: tools/deploy/fetch.py")
KUBERNETES = ROOT / "deploy" / "kubernetes"
KEYS = ["--set", "keys.apiKeys=ops:admin:longenough", "--set", "keys.featuresApiKeys=app:infer:longenough"]
ALL = ["--set", f"{','.join(manifests.VALUES)},monitoring.dashboard=true", *KEYS]


def objects(documents):
    """The Kubernetes objects of a YAML text, by kind and name."""
    return {(found["kind"], found["metadata"]["name"]): found for found in yaml.safe_load_all(documents) if found}


def plain(folder="*"):
    """The objects of the manifests."""
    files = [file for file in sorted(KUBERNETES.glob(f"{folder}/*.yaml")) if file.name != "kustomization.yaml"]
    return {key: found for file in files for key, found in objects(file.read_text()).items()}


def workloads(found):
    """The objects that have pods."""
    return [entry for (kind, _), entry in found.items() if kind in ("Deployment", "StatefulSet")]


def container(workload):
    [only] = workload["spec"]["template"]["spec"]["containers"]
    return only


def environment(workload):
    """The variables of the container; those from a Secret are the name of its entry."""
    return {entry["name"]: entry.get("value") or entry["valueFrom"]["secretKeyRef"]["key"] for entry in container(workload)["env"]}


# Valid


def schema_file(version, found):
    """The schema of an object's kind; `None` for a kind that Kubernetes itself does not have."""
    group, _, api = found["apiVersion"].rpartition("/")
    if group == "monitoring.coreos.com":
        return None
    stem = "-".join(part for part in (found["kind"].lower(), group.split(".")[0], api) if part)
    return fetch.SCHEMAS / version / f"{stem}.json"


def validate(version, found):
    file = schema_file(version, found)
    if file is None:
        return CUSTOM[found["kind"]](found["spec"])
    load = lambda uri: referencing.Resource.from_contents(  # noqa: E731
        json.loads((file.parent / pathlib.PurePosixPath(uri).name).read_text()), referencing.jsonschema.DRAFT4)
    schema = {**json.loads(file.read_text()), "$id": f"schema:///{file.name}"}
    jsonschema.Draft4Validator(schema, registry=referencing.Registry(retrieve=load)).validate(found)


def check_pod_monitor(spec):
    """What of the operator's PodMonitor is used here."""
    assert set(spec) == {"jobLabel", "podTargetLabels", "selector", "podMetricsEndpoints"}
    for endpoint in spec["podMetricsEndpoints"]:
        assert {"port", "path", "interval"} <= set(endpoint) <= {"port", "path", "interval", "scheme", "tlsConfig"}
        assert endpoint.get("tlsConfig", {}).keys() <= {"insecureSkipVerify"}
        assert re.fullmatch(r"\d+[sm]", endpoint["interval"])


def check_prometheus_rule(spec):
    """What of the operator's PrometheusRule is used here."""
    assert set(spec) == {"groups"}
    for group in spec["groups"]:
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            assert {"alert", "expr"} <= set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
            assert all(isinstance(value, str) for value in {**rule["labels"], **rule["annotations"]}.values())


CUSTOM = {"PodMonitor": check_pod_monitor, "PrometheusRule": check_prometheus_rule}
VERSIONS = json.loads(fetch.LOCK_FILE.read_text())["schemas"]["versions"]


@pytest.mark.skipif(not fetch.SCHEMAS.exists(), reason="Kubernetes' schemas are not there: tools/deploy/fetch.py")
@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_in_the_oldest_and_the_newest_kubernetes(version):
    assert len(plain()) > 10
    for key, found in plain().items():
        try:
            validate(version, found)
        except jsonschema.ValidationError as error:
            raise AssertionError(f"{key}: {error.json_path}: {error.message}") from None
    deployment = json.dumps(plain()["Deployment", "headstart-features"])
    misspelt = json.loads(deployment.replace("readOnlyRootFilesystem", "readonlyRootFilesystem"))
    with pytest.raises(jsonschema.ValidationError):
        validate(version, misspelt)


@needs_helm
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flags", [
    [], ALL, ["--set", "features.enabled=false,networkPolicy.enabled=false"], ["--set", "whole.enabled=false"],
], ids=["defaults", "everything", "whole alone", "features alone"])
def test_what_the_chart_renders_is_valid(flags, version):
    found = objects(manifests.render(*flags, name="some-release"))
    for key, entry in found.items():
        try:
            validate(version, entry)
        except jsonschema.ValidationError as error:
            raise AssertionError(f"{key}: {error.json_path}: {error.message}") from None
        assert entry["metadata"]["name"].startswith("some-release-headstart")


@needs_helm
def test_the_oldest_kubernetes_that_the_chart_takes_is_the_one_it_is_checked_with():
    assert parsed("deploy/helm/headstart/Chart.yaml")["kubeVersion"] == f">={VERSIONS[0]}-0"
    # Newer than any schema here, older than what it asks for.
    assert manifests.render("--kube-version", VERSIONS[0])
    with pytest.raises(subprocess.CalledProcessError):
        manifests.render("--kube-version", "1.28.0")


@needs_helm
def test_helm_finds_no_fault_in_the_chart():
    result = subprocess.run([fetch.HELM, "lint", "--strict", manifests.CHART], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


# Saying the same


@needs_helm
def test_manifests_and_chart_say_the_same():
    made = manifests.manifests()
    for name, wanted in made.items():
        assert (KUBERNETES / name).read_text() == wanted, f"{name}: `make manifests` writes it"
    ours = {"namespace.yaml", "secret.example.yaml", "kustomization.yaml"}
    there = {str(file.relative_to(KUBERNETES)) for file in KUBERNETES.glob("*/*.yaml") if file.name not in ours}
    assert there == set(made)


@pytest.mark.skipif(not fetch.KUBECTL.exists(), reason="kubectl is not there: tools/deploy/fetch.py")
def test_kubectl_puts_the_manifests_together():
    for folder, also in (("base", set()), ("with-prometheus", set(plain("with-prometheus")))):
        result = subprocess.run([fetch.KUBECTL, "kustomize", KUBERNETES / folder], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        built = objects(result.stdout)
        assert set(built) == (set(plain("base")) | also) - {("Secret", "headstart-keys")}
        assert all(found["metadata"].get("namespace") == "headstart" for (kind, _), found in built.items() if kind != "Namespace")


def test_the_version_of_the_chart_is_the_servers():
    chart = parsed("deploy/helm/headstart/Chart.yaml")
    version = re.search(r'^version = "(.*)"', text("Cargo.toml"), re.MULTILINE)[1]
    assert chart["appVersion"] == chart["version"] == version
    [image] = parsed("deploy/kubernetes/base/kustomization.yaml")["images"]
    assert image["newTag"] == version


def test_the_rules_of_the_operator_are_the_alerts_that_are_tested():
    rule = plain()["PrometheusRule", "headstart"]
    *groups, pods = rule["spec"]["groups"]
    assert {"groups": groups} == parsed("deploy/prometheus/alerts.yml")
    assert {alert["alert"] for alert in pods["rules"]} == {"HeadstartGone"} and "`HeadstartGone`" in text(GUIDE)
    # `up` is asked for by the name of the job, which the monitors take from this label.
    assert any('job="headstart"' in alert["expr"] for alert in alerts())
    for workload in workloads(plain()):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        monitor = plain()["PodMonitor", workload["metadata"]["name"]]["spec"]
        assert labels[monitor["jobLabel"]] == "headstart"
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        wanted = {re.sub(r"\W", "_", name): labels[name] for name in monitor["podTargetLabels"]}
        assert any(all(f'{name}="{value}"' in alert["expr"] for name, value in wanted.items()) for alert in pods["rules"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_a_pod_that_is_no_target_for_five_minutes_is_told_of(tmp_path):
    [pods] = [group for group in plain()["PrometheusRule", "headstart"]["spec"]["groups"] if group["name"] == "headstart-pods"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [pods]}))
    target = 'up{job="headstart", namespace="%s", app_kubernetes_io_instance="headstart", app_kubernetes_io_component="%s"}'
    gone = lambda minute, samples: {  # noqa: E731
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": minute, "exp_samples": samples}
    case = {"interval": "1m", "input_series": [
        {"series": target % ("headstart", "whole"), "values": "1x10 stale _x9 0x20"},
        {"series": target % ("headstart", "features"), "values": "1x40"},
        # That of another release is there all the time.
        {"series": target % ("elsewhere", "whole"), "values": "1x40"},
    ], "promql_expr_test": [
        gone("10m", []), gone("15m", []),
        gone("17m", [{"labels": '{alertname="HeadstartGone"}', "value": 1}]),
        # One that does not answer is there, and HeadstartDown tells of it.
        gone("35m", []),
    ]}
    (tmp_path / "cases.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [case]}))
    result = subprocess.run(["promtool", "test", "rules", "cases.yml"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@needs_helm
def test_the_dashboard_of_the_chart_is_the_dashboard():
    [board] = [found for (kind, _), found in objects(manifests.render(*ALL)).items() if kind == "ConfigMap"]
    assert json.loads(board["data"]["headstart.json"]) == json.loads(text("deploy/grafana/dashboards/headstart.json"))


def test_the_autoscaler_asks_for_metrics_that_the_adapter_makes_of_metrics_that_exist():
    rules = {rule["name"]["as"]: rule for rule in parsed("deploy/prometheus/adapter.yml")["rules"]["custom"]}
    scaler = plain()["HorizontalPodAutoscaler", "headstart-features"]["spec"]
    assert {metric["pods"]["metric"]["name"] for metric in scaler["metrics"]} == set(rules)
    assert scaler["scaleTargetRef"]["name"] == "headstart-features"
    known = {series for names in families().values() for series in names}
    for rule in rules.values():
        assert metrics_in(rule["seriesQuery"]) | metrics_in(rule["metricsQuery"]) <= known, rule["name"]
    # Bulk items are meant to wait: no copy is added for them.
    wait = rules["headstart_queue_wait_seconds_p95"]
    asked = re.findall(r"\{[^}]*\}", wait["seriesQuery"] + wait["metricsQuery"])
    assert len(asked) == 3 and all('class="interactive"' in matchers for matchers in asked)


# Asking little


def test_pods_pass_the_restricted_standard_with_a_root_they_cannot_write():
    found = plain()
    assert found["Namespace", "headstart"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    image_user = re.search(r"^USER (\d+):(\d+)$", text("Dockerfile"), re.MULTILINE)
    for workload in workloads(found):
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == tuple(map(int, image_user.groups()))
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all({"emptyDir", "persistentVolumeClaim"} & set(volume) for volume in pod["volumes"])
        assert pod["automountServiceAccountToken"] is False
        assert container(workload)["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert {mount["mountPath"] for mount in container(workload)["volumeMounts"]} == {"/headstart/data", "/tmp"}


def test_the_network_policy_lets_nothing_out_and_in_only_to_the_port():
    policy = plain()["NetworkPolicy", "headstart"]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"} and policy["egress"] == []
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"protocol": "TCP", "port": "http"}]]
    assert all(rule["from"] for rule in policy["ingress"]), "an empty list lets everybody in"
    for workload in workloads(plain()):
        assert policy["podSelector"]["matchLabels"].items() <= workload["spec"]["template"]["metadata"]["labels"].items()


def test_a_data_folder_has_one_pod_and_the_copies_without_data_may_be_many():
    found = plain()
    whole, features = found["StatefulSet", "headstart"], found["Deployment", "headstart-features"]
    assert whole["spec"]["replicas"] == 1
    [claim] = whole["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert "replicas" not in features["spec"], "applied again it would undo what the autoscaler did"
    assert not any(kind == "PodDisruptionBudget" and entry["spec"]["selector"]["matchLabels"].items()
                   <= whole["spec"]["template"]["metadata"]["labels"].items() for (kind, _), entry in found.items())


def test_services_budgets_and_spread_select_pods_that_exist():
    found = plain()
    pods = [workload["spec"]["template"]["metadata"]["labels"] for workload in workloads(found)]
    for (kind, name), entry in found.items():
        if kind in ("Service", "PodDisruptionBudget"):
            wanted = entry["spec"]["selector"]
            wanted = wanted.get("matchLabels", wanted)
            assert sum(wanted.items() <= labels.items() for labels in pods) == 1, f"{kind} {name}"
    # Copies that count others than themselves would all go to one machine; a single pod has nothing to be spread over.
    spread = {workload["metadata"]["name"]: workload["spec"]["template"]["spec"].get("topologySpreadConstraints", []) for workload in workloads(found)}
    assert [name for name, constraints in spread.items() if constraints] == ["headstart-features"]
    for constraint in spread["headstart-features"]:
        wanted = constraint["labelSelector"]["matchLabels"]
        selected = [workload["metadata"]["name"] for workload in workloads(found)
                    if wanted.items() <= workload["spec"]["template"]["metadata"]["labels"].items()]
        assert selected == ["headstart-features"], constraint
    assert found["StatefulSet", "headstart"]["spec"]["serviceName"] == "headstart"


# Fitting the server


def test_pods_are_probed_where_the_server_answers_and_given_time_to_stop():
    router = text("src/http/router.rs")
    for workload in workloads(plain()):
        [port] = container(workload)["ports"]
        assert f"0.0.0.0:{port['containerPort']}" in text("Dockerfile")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container(workload)[probe]["httpGet"]
            assert asked["port"] == port["name"] and f'"{asked["path"]}"' in router
        # Readiness waits for backbones, however long they load; nothing else does, or a slow start would be killed.
        paths = {probe: container(workload)[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
        given = environment(workload)
        needed = int(given["HEADSTART_DRAIN_NOTICE_MS"]) / 1000 + 2 * int(given["HEADSTART_DRAIN_SECONDS"]) + 1
        assert workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > needed
        # Endpoints are updated after a readiness probe has failed, or by the deletion itself.
        ready = container(workload)["readinessProbe"]
        assert int(given["HEADSTART_DRAIN_NOTICE_MS"]) / 1000 >= ready["periodSeconds"] * ready["failureThreshold"]
        limits = container(workload)["resources"]["limits"]
        assert float(limits["cpu"]).is_integer() and container(workload)["resources"]["requests"] == limits


def test_pods_set_options_that_exist_and_are_told_of_no_other_service():
    secret = plain()["Secret", "headstart-keys"]["stringData"]
    for workload in workloads(plain()):
        for variable, value in environment(workload).items():
            assert variable in options(), variable
            if variable == "HEADSTART_API_KEYS":
                assert value in secret
        # HEADSTART_FEATURES_SERVICE_HOST, which Kubernetes would set, is no option.
        assert workload["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_a_variable_of_another_service_would_stop_the_start(tmp_path):
    from service import BINARY, environment as inherited

    variables = inherited(HEADSTART_FEATURES_SERVICE_HOST="10.0.0.1")
    result = subprocess.run([BINARY, "serve", "--print-config"], env=variables, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode != 0 and "HEADSTART_FEATURES_SERVICE_HOST" in result.stderr


@pytest.mark.parametrize("workload", workloads(plain()), ids=lambda workload: workload["metadata"]["name"])
def test_the_server_starts_as_the_pod_starts_it_and_copies_keep_nothing(start, workload):
    secret = plain()["Secret", "headstart-keys"]["stringData"]
    given = environment(workload)
    variables = {name: value for name, value in given.items() if name != "HEADSTART_WEBHOOK_SECRET"}
    # Whatever keys an operator writes: one that may train must not lose its data on a copy.
    keys = secret[given["HEADSTART_API_KEYS"]]
    assert "CHANGE-ME" in keys
    variables["HEADSTART_API_KEYS"] = f"{keys.replace('CHANGE-ME', 'long-enough-now')},trainer:infer+train:long-enough"
    # What balancers need for noticing would only hold the tests up.
    variables["HEADSTART_DRAIN_NOTICE_MS"] = "0"
    server = start(**variables)
    upload = server.http.post("/v1/files", headers={"Authorization": "Bearer long-enough"}, data={"purpose": "fine-tune"},
                              files={"file": ("train.jsonl", b'{"text": "a", "label": "b"}\n')})
    kept = workload["kind"] == "StatefulSet"
    assert (upload.status_code == 200) == kept, upload.text
    assert server.metric("workers") == int(kept)


# Refusing what cannot work


@needs_helm
@pytest.mark.parametrize(("value", "reason"), [
    ("whole.replicas=3", "additional properties 'replicas' not allowed"),
    ("whole.storage.accessMode=ReadWriteMany", "/whole/storage/accessMode"),
    ("features.options.queue-items=8192", "got number, want string"),
    ("options.api-keys=app:infer:CHANGE-ME", "invalid propertyName 'api-keys'"),
    ("keys.apiKeys=app:infer", "/keys/apiKeys"),
    ("keys.apiKeys=ops:admin:longenough", "keys.featuresApiKeys: the copies without data have none"),
    ("keys.apiKeys=ops:admin:longenough,keys.featuresApiKeys=app:infer+train:longenough", "only the scope `infer`"),
    ("whole.options.webhook-hosts=hooks.example.com", "networkPolicy.egress: webhooks"),
    ("options.webhook-hosts=hooks.example.com", "networkPolicy.egress: webhooks"),
    ("options.otlp-endpoint=http://collector:4318", "networkPolicy.egress: traces"),
    ("whole.options.otlp-endpoint=http://collector:4318", "networkPolicy.egress: traces"),
    ("features.options.otlp-endpoint=http://collector:4318", "networkPolicy.egress: traces"),
    ("extraEnv[0].name=HEADSTART_LOG,extraEnv[0].value=debug", "/extraEnv/0/name"),
    ("networkPolicy.from=null", "networkPolicy"),
    ("image.tags=1", "additional properties 'tags' not allowed"),
])
def test_the_chart_refuses_values_that_cannot_work_and_says_why(value, reason):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        manifests.render("--set", value)
    assert reason in refused.value.stderr


@needs_helm
def test_options_of_the_chart_reach_the_server_as_they_were_written():
    options_given = "whole.options.max-file-bytes=10737418240,options.log=headstart=debug"
    rendered = manifests.render("--set-string", options_given, "--set", "drain.seconds=60")
    whole = objects(rendered)["StatefulSet", "headstart"]
    given = environment(whole)
    assert given["HEADSTART_MAX_FILE_BYTES"] == "10737418240" and given["HEADSTART_LOG"] == "headstart=debug"
    assert given["HEADSTART_DRAIN_SECONDS"] == "60" and whole["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 140


@needs_helm
def test_copies_are_not_told_of_webhooks_which_they_have_no_secret_to_sign_with():
    open_policy = ["--set", "networkPolicy.egress[0].ports[0].port=443"]
    given = "options.webhook-hosts=hooks.example.com,options.webhook-url=https://hooks.example.com/jobs"
    found = objects(manifests.render("--set-string", given, *open_policy))
    whole, copy = (environment(found[key]) for key in (("StatefulSet", "headstart"), ("Deployment", "headstart-features")))
    told = {"HEADSTART_WEBHOOK_HOSTS", "HEADSTART_WEBHOOK_URL", "HEADSTART_WEBHOOK_SECRET"}
    assert told <= set(whole) and not told & set(copy)
    # Nothing has to leave where nobody sends any.
    assert manifests.render("--set-string", given, "--set", "whole.enabled=false")


@needs_helm
@pytest.mark.parametrize(("place", "speak"), [
    ("options", {"headstart", "headstart-features"}), ("whole.options", {"headstart"}), ("features.options", {"headstart-features"}),
])
def test_pods_with_a_certificate_are_probed_and_scraped_over_tls(place, speak):
    files = f"{place}.tls-certificate=/tls/tls.crt,{place}.tls-key=/tls/tls.key"
    found = objects(manifests.render("--set-string", files, "--set", "monitoring.podMonitor=true"))
    for workload in workloads(found):
        name = workload["metadata"]["name"]
        schemes = {container(workload)[probe]["httpGet"].get("scheme") for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert schemes == {"HTTPS" if name in speak else None}, name
        [endpoint] = found["PodMonitor", name]["spec"]["podMetricsEndpoints"]
        over_tls = {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
        assert {key: endpoint[key] for key in over_tls if key in endpoint} == (over_tls if name in speak else {}), name


@needs_helm
def test_variables_that_are_no_options_reach_every_pod_also_from_a_secret():
    entry = "extraEnv[0].name=OTEL_EXPORTER_OTLP_HEADERS,extraEnv[0].valueFrom.secretKeyRef"
    flags = f"{entry}.name=collector,{entry.split(',')[1]}.key=headers,extraEnv[1].name=SSL_CERT_FILE,extraEnv[1].value=/ca/ca.crt"
    for workload in workloads(objects(manifests.render("--set", flags))):
        given = environment(workload)
        assert (given["OTEL_EXPORTER_OTLP_HEADERS"], given["SSL_CERT_FILE"]) == ("headers", "/ca/ca.crt")


@needs_helm
def test_new_keys_restart_the_pods():
    def marks(*flags):
        pods = [workload["spec"]["template"] for workload in workloads(objects(manifests.render(*flags)))]
        return [pod["metadata"]["annotations"]["checksum/keys"] for pod in pods]

    before, after = marks(*KEYS), marks(*KEYS, "--set", "keys.featuresApiKeys=app:infer:another-one")
    assert len(before) == 2 and not set(before) & set(after)
