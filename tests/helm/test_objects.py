"""The objects that the chart makes: pods, accounts, monitors, and what is made for the end."""

import json

import click
import pytest
import yaml

from app.cli import main
from tests.helm.api_server import ApiServer, Key
from tests.helm.chart import (
    CHART,
    ROOT,
    containers,
    environment,
    is_hook,
    only,
    peerd_of,
    pod_specs,
    render,
    serve_of,
    volumes,
    weight,
)
from tests.helm.conftest import Rendered
from tests.helm.values import GIVEN_CONFIG_MAPS, GIVEN_SECRETS, MATRIX

EVERY = pytest.mark.parametrize("values", MATRIX)


class TestThePod:
    def test_is_the_hosts(self, rendered: Rendered) -> None:
        daemon_set = peerd_of(rendered("defaults"))
        pod = daemon_set["spec"]["template"]
        assert daemon_set["metadata"]["namespace"] == "peerd-ns"
        assert pod["metadata"]["labels"]["app"] == "peerd"
        assert pod["spec"]["hostNetwork"] is True
        assert pod["spec"]["dnsPolicy"] == "ClusterFirstWithHostNet"
        assert pod["spec"]["enableServiceLinks"] is False

    def test_knows_which_one_it_is(self, rendered: Rendered) -> None:
        """By what `app/kubernetes/pod.py` reads: the pod has its node's host name."""
        fields = {
            one["name"]: one["valueFrom"]["fieldRef"]["fieldPath"]
            for one in serve_of(rendered("defaults"))["env"]
            if "valueFrom" in one
        }
        assert fields == {
            "PEERD_NODE_NAME": "spec.nodeName",
            "PEERD_ADVERTISE_HOST": "status.hostIP",
            "POD_NAME": "metadata.name",
            "POD_UID": "metadata.uid",
            "POD_NAMESPACE": "metadata.namespace",
        }

    def test_is_reached_by_clients_on_loopback_alone(self, rendered: Rendered) -> None:
        ports = {one["name"]: one for one in serve_of(rendered("defaults"))["ports"]}
        assert (ports["http"]["containerPort"], ports["http"]["hostIP"]) == (30000, "127.0.0.1")
        assert ports["metrics"]["containerPort"] == 5004
        assert environment(rendered("defaults"))["PEERD_NODE"] == "http://127.0.0.1:30000"
        assert environment(rendered("addresses of IPv6"))["PEERD_NODE"] == "http://[::1]:30000"

    @EVERY
    def test_is_asked_where_it_listens(self, values: str, rendered: Rendered) -> None:
        documents = rendered(values)
        options, container = environment(documents), serve_of(documents)
        ports = {(one["name"], one.get("protocol", "TCP")): one["containerPort"] for one in container["ports"]}
        listens = {
            key: int(options[f"PEERD_{name}_ADDR"].rpartition(":")[2])
            for key, name in ((("http", "TCP"), "HTTP"), (("peer", "TCP"), "PEER"), (("gossip", "TCP"), "GOSSIP"))
        }
        host, _, port = options["PEERD_METRICS_ADDR"].rpartition(":")
        listens["metrics", "TCP"] = int(port)
        if "PEERD_SERF_BIND" in options:
            serf = int(options["PEERD_SERF_BIND"].rpartition(":")[2])
            listens |= {("serf-tcp", "TCP"): serf, ("serf-udp", "UDP"): serf}
        assert ports == listens
        for kind, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
            asked = container[f"{kind}Probe"]["httpGet"]
            assert (asked["path"], asked["port"]) == (path, "metrics")
            assert asked.get("host") == (None if host in ("0.0.0.0", "[::]") else host)
        (service,) = (one for one in documents if one["kind"] == "Service")
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["publishNotReadyAddresses"] is True
        found = {(one["name"], one.get("protocol", "TCP")): one["port"] for one in service["spec"]["ports"]}
        assert found == {key: port for key, port in ports.items() if key[0] != "http"}

    @EVERY
    def test_is_given_longer_than_its_drain(self, values: str, rendered: Rendered) -> None:
        documents = rendered(values)
        drain = int(environment(documents)["PEERD_DRAIN_TIMEOUT"].removesuffix("s"))
        assert peerd_of(documents)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= drain + 15

    def test_is_replaced_without_a_second_one_beside_it(self, rendered: Rendered) -> None:
        strategy = peerd_of(rendered("defaults"))["spec"]["updateStrategy"]
        assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%", "maxSurge": 0}}

    @EVERY
    def test_may_do_no_more_than_it_must(self, values: str, rendered: Rendered) -> None:
        for _, pod in pod_specs(rendered(values)):
            for container in containers(pod):
                given = {**pod.get("securityContext", {}), **container["securityContext"]}
                assert given["readOnlyRootFilesystem"] is True
                assert given["allowPrivilegeEscalation"] is False
                assert given["capabilities"] == {"drop": ["ALL"]}
                assert given["seccompProfile"] == {"type": "RuntimeDefault"}
                assert "privileged" not in given

    @EVERY
    def test_mounts_what_is_there_and_nothing_twice(self, values: str, rendered: Rendered) -> None:
        documents = rendered(values)
        secrets = {one["metadata"]["name"]: set(one["data"]) for one in documents if one["kind"] == "Secret"}
        maps = {one["metadata"]["name"]: set(one["data"]) for one in documents if one["kind"] == "ConfigMap"}
        secrets |= {name: set(keys) for name, keys in GIVEN_SECRETS.items()}
        maps |= {name: set(keys) for name, keys in GIVEN_CONFIG_MAPS.items()}
        for name, pod in pod_specs(documents):
            there, mounted = volumes(pod), set()
            for container in containers(pod):
                paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
                assert len(set(paths)) == len(paths)
                mounted |= {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted == set(there), name
            for volume in there.values():
                if secret := volume.get("secret"):
                    assert {item["key"] for item in secret.get("items", [])} <= secrets[secret["secretName"]]
                if config_map := volume.get("configMap"):
                    assert {item["key"] for item in config_map.get("items", [])} <= maps[config_map["name"]]

    @EVERY
    def test_keeps_the_cas_key_from_what_talks_to_the_network(self, values: str, rendered: Rendered) -> None:
        documents = rendered(values)
        seen = set()
        for name, pod in pod_specs(documents):
            for container in containers(pod):
                for mount in container.get("volumeMounts", []):
                    secret = volumes(pod)[mount["name"]].get("secret", {})
                    keys = {item["key"] for item in secret.get("items", [])}
                    if secret and (not keys or "tls.key" in keys):
                        seen.add((name, container["name"]))
        made_elsewhere = values == "certificates made elsewhere"
        assert seen == (set() if made_elsewhere else {(peerd_of(documents)["metadata"]["name"], "certificate")})

    def test_runs_where_it_is_told_to(self, rendered: Rendered) -> None:
        documents = rendered("pods as one wants them")
        told = MATRIX["pods as one wants them"]["peerd"]
        for _, pod in pod_specs(documents):
            assert pod["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]
            assert (pod["tolerations"], pod["nodeSelector"]) == (
                told["tolerations"],
                {"pool": "gpu", "kubernetes.io/os": "linux"},
            )
            assert pod["affinity"] == told["affinity"]
            assert "priorityClassName" not in pod
            assert {one["imagePullPolicy"] for one in containers(pod)} == {"Always"}
        assert serve_of(documents)["resources"]["limits"] == {"memory": "2Gi", "cpu": 2}
        default = peerd_of(rendered("defaults"))["spec"]["template"]["spec"]
        assert default["tolerations"] == [{"operator": "Exists"}]
        assert default["priorityClassName"] == "system-node-critical"

    def test_uses_the_image_that_is_named(self, rendered: Rendered) -> None:
        documents = rendered("hosts as one text, as Azure/peerd's README has them")
        images = {one["image"] for _, pod in pod_specs(documents) for one in containers(pod)}
        assert images == {"registry.example/peerd:1.2.3"}


class TestCommandsBesideServe:
    @EVERY
    def test_exist_with_their_options(self, values: str, rendered: Rendered) -> None:
        seen = set()
        for _, pod in pod_specs(rendered(values)):
            for container in containers(pod):
                words = [*container["command"], *container.get("args", [])]
                if words[0] != "peerd":
                    continue
                command: click.Command = main
                context = click.Context(main)
                while isinstance(command, click.Group):
                    found = command.get_command(context, words[1])
                    assert found is not None, words
                    command, context, words = found, click.Context(found, parent=context), words[1:]
                known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
                assert {word.partition("=")[0] for word in words if str(word).startswith("--")} <= known
                seen.add(command.name)
        assert "serve" in seen


class TestNames:
    def test_of_everything_follow_the_one_that_is_given(self, rendered: Rendered) -> None:
        documents = rendered("names and places of one's own")
        assert all(one["metadata"]["name"].startswith("mirror") for one in documents)
        assert {one["metadata"].get("namespace", "mirror-ns") for one in documents} == {"mirror-ns"}
        assert environment(documents)["PEERD_JOIN"] == "mirror-members.mirror-ns.svc:7946"
        assert peerd_of(documents)["spec"]["selector"] == {"matchLabels": {"app": "peerd"}}
        assert not [one for one in documents if one["kind"] == "Namespace"]

    def test_the_namespace_is_made_unless_it_is_the_releases_own(self) -> None:
        made = only(render(), "Namespace", "peerd-ns")
        assert made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
        assert "Namespace" not in {one["kind"] for one in render(None, "--namespace", "peerd-ns")}

    def test_subjects_and_roles_of_bindings_are_there(self, rendered: Rendered) -> None:
        documents = rendered("defaults")
        names = {(one["kind"], one["metadata"]["name"]) for one in documents}
        bindings = [one for one in documents if one["kind"].endswith("Binding")]
        assert len(bindings) == 4
        for binding in bindings:
            assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in names
            assert {(one["kind"], one["name"]) for one in binding["subjects"]} <= names
            assert {one["namespace"] for one in binding["subjects"]} == {"peerd-ns"}

    @pytest.mark.parametrize(
        ("verb", "group", "key", "is_allowed"),
        [
            ("create", "", ("events", "peerd-ns", ""), True),
            ("patch", "", ("events", "peerd-ns", "peerd-node-1.x"), True),
            ("get", "", ("pods", "peerd-ns", "peerd-node-1"), True),
            ("get", "", ("nodes", "", "node-1"), True),
            ("create", "", ("events", "default", ""), False),
            ("get", "", ("pods", "default", "other"), False),
            ("list", "", ("nodes", "", ""), False),
            ("get", "", ("secrets", "peerd-ns", "peerd-ca"), False),
            ("delete", "apps", ("daemonsets", "peerd-ns", "peerd"), False),
        ],
    )
    def test_peerd_may_do_what_it_does_and_no_more(
        self, verb: str, group: str, key: Key, is_allowed: bool, rendered: Rendered
    ) -> None:
        """`app/kubernetes/api.py` is what it does."""
        api = ApiServer()
        for document in rendered("defaults"):
            if document["kind"].startswith(("Role", "ClusterRole")):
                api.put(document)
        account = peerd_of(rendered("defaults"))["spec"]["template"]["spec"]["serviceAccountName"]
        assert api.allows(f"system:serviceaccount:peerd-ns:{account}", verb, group, key) is is_allowed


class TestMonitoring:
    def test_a_monitor_finds_the_port_by_name(self, rendered: Rendered) -> None:
        documents = rendered("all that Prometheus and Grafana take")
        (pod_endpoint,) = only(documents, "PodMonitor", "peerd")["spec"]["podMetricsEndpoints"]
        (endpoint,) = only(documents, "ServiceMonitor", "peerd")["spec"]["endpoints"]
        assert (pod_endpoint["port"], pod_endpoint["path"], pod_endpoint["interval"]) == (
            "metrics",
            "/metrics/prometheus",
            "30s",
        )
        assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics/prometheus")
        service = only(documents, "Service", "peerd-members")
        selector = only(documents, "ServiceMonitor", "peerd")["spec"]["selector"]["matchLabels"]
        assert selector.items() <= service["metadata"]["labels"].items()

    def test_aks_gets_a_monitor_of_its_kind(self) -> None:
        documents = render(None, "--api-versions", "azmonitoring.coreos.com/v1")
        assert only(documents, "PodMonitor", "peerd")["apiVersion"] == "azmonitoring.coreos.com/v1"
        assert "PodMonitor" not in {one["kind"] for one in render()}
        off = {"peerd": {"metrics": {"prometheus": {"aksAutoDiscovery": False}}}}
        pod = peerd_of(render(off, "--api-versions", "azmonitoring.coreos.com/v1"))["spec"]["template"]
        assert "prometheus.io/scrape" not in pod["metadata"]["annotations"]

    def test_annotations_name_the_port(self, rendered: Rendered) -> None:
        pod = peerd_of(rendered("other ports, and metrics on loopback"))["spec"]["template"]
        assert pod["metadata"]["annotations"]["prometheus.io/port"] == "15004"

    def test_the_dashboard_is_the_one_of_compose(self, rendered: Rendered) -> None:
        """When it was changed there: cp deploy/compose/grafana/dashboards/peerd.json deploy/helm/files/dashboard.json."""
        original = ROOT / "deploy" / "compose" / "grafana" / "dashboards" / "peerd.json"
        assert (CHART / "files" / "dashboard.json").read_bytes() == original.read_bytes()
        config_map = only(rendered("all that Prometheus and Grafana take"), "ConfigMap", "peerd-dashboard")
        assert config_map["data"]["peerd.json"] == original.read_text()
        assert json.loads(config_map["data"]["peerd.json"])["panels"]
        assert config_map["metadata"]["namespace"] == "monitoring"
        assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"

    def test_the_alerts_are_those_that_were_tried(self, rendered: Rendered) -> None:
        """When they were changed there: cp deploy/prometheus/alerts.yaml deploy/helm/files/alerts.yaml."""
        original = ROOT / "deploy" / "prometheus" / "alerts.yaml"
        assert (CHART / "files" / "alerts.yaml").read_bytes() == original.read_bytes()
        rule = only(rendered("all that Prometheus and Grafana take"), "PrometheusRule", "peerd")
        assert rule["spec"] == yaml.safe_load(original.read_text())
        assert rule["metadata"]["labels"]["role"] == "alert-rules"
        assert "PrometheusRule" not in {one["kind"] for one in render()}


class TestTheEnd:
    def test_stops_then_restores_then_waits(self, rendered: Rendered) -> None:
        hooks = [one for one in rendered("defaults") if is_hook(one)]
        assert {one["metadata"]["annotations"]["helm.sh/hook"] for one in hooks} == {"pre-delete"}
        steps = sorted((one for one in hooks if one["kind"] in ("Job", "DaemonSet")), key=weight)
        assert [one["metadata"]["name"] for one in steps] == [
            "peerd-uninstall-stop",
            "peerd-restore",
            "peerd-uninstall-wait",
        ]
        assert len({weight(one) for one in steps}) == 3
        others = [one for one in hooks if one not in steps]
        assert max(weight(one) for one in others) < weight(steps[0])
        roles = [weight(one) for one in others if one["kind"].endswith("Role")]
        assert max(roles) < min(weight(one) for one in others if one["kind"].endswith("Binding"))

    def test_runs_the_script_as_it_is(self, rendered: Rendered) -> None:
        script = only(rendered("defaults"), "ConfigMap", "peerd-uninstall")["data"]["uninstall.py"]
        assert script.strip() == (CHART / "files" / "uninstall.py").read_text().strip()

    def test_restores_where_peerd_writes(self, rendered: Rendered) -> None:
        for values in ("defaults", "k3s"):
            documents = rendered(values)
            restore = only(documents, "DaemonSet", "peerd-restore")["spec"]["template"]["spec"]
            folder = environment(documents)["PEERD_HOSTS_DIR"]
            assert restore["initContainers"][0]["command"] == ["peerd", "hosts", "restore", f"--hosts-dir={folder}"]
            assert volumes(restore)["mirror-files"]["hostPath"]["path"] == folder
            assert restore["tolerations"] == peerd_of(documents)["spec"]["template"]["spec"]["tolerations"]

    def test_can_be_left_out(self, rendered: Rendered) -> None:
        assert not [one for one in rendered("no help at the end") if is_hook(one)]

    def test_leaves_the_cache_unless_told_otherwise(self, rendered: Rendered) -> None:
        steps = {}
        for values in ("defaults", "the cache deleted at the end"):
            pod = only(rendered(values), "DaemonSet", "peerd-restore")["spec"]["template"]["spec"]
            steps[values] = [one["name"] for one in pod["initContainers"]]
        assert list(steps.values()) == [["restore"], ["restore", "delete-cache"]]
