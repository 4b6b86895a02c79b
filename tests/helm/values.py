"""Values that the chart is tried with: each a file that somebody might write."""

from typing import Any

MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "hosts as one text, as Azure/peerd's README has them": {
        "peerd": {"hosts": "mcr.microsoft.com ghcr.io  docker.io", "image": {"ref": "registry.example/peerd:1.2.3"}}
    },
    "hosts by name, by URL, with a port, and all others": {
        "peerd": {"hosts": ["docker.io", "http://example.local:5000", "https://ghcr.io/", "_default"]}
    },
    "no hosts": {"peerd": {"hosts": []}},
    "containerd left alone": {
        "peerd": {"configureMirrors": False, "hosts": "https://docker.io http://example.local:5000"}
    },
    "Secrets of one's own": {
        "peerd": {"tls": {"existingSecret": "my-ca", "days": 90}, "serf": {"existingSecret": "my-serf"}}
    },
    "certificates made elsewhere": {
        "peerd": {"tls": {"volume": {"hostPath": {"path": "/etc/peerd/tls", "type": "Directory"}}}}
    },
    "members by DNS": {"peerd": {"membership": "dns"}},
    "a list of members": {"peerd": {"membership": "static", "join": ["10.0.0.7:5002", "10.0.0.8:5002"]}},
    "an agent of Serf that runs already": {"peerd": {"serf": {"rpcAddr": "127.0.0.1:7373"}, "join": "10.0.0.7:7946"}},
    "addresses of IPv6": {
        "peerd": {
            "addresses": {
                "http": "[::1]:30000",
                "peer": "[::]:5001",
                "gossip": "[::]:5002",
                "serf": "[::]:7946",
                "metrics": "[::]:5004",
            }
        }
    },
    "other ports, and metrics on loopback": {
        "peerd": {
            "addresses": {
                "http": "127.0.0.1:31000",
                "peer": "0.0.0.0:15001",
                "gossip": "0.0.0.0:15002",
                "serf": "0.0.0.0:17946",
                "metrics": "127.0.0.1:15004",
            }
        }
    },
    "k3s": {
        "peerd": {
            "containerd": {
                "socket": "/run/k3s/containerd/containerd.sock",
                "config": "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
                "hostsDir": "/var/lib/rancher/k3s/agent/etc/containerd/certs.d",
                "contentDir": "/var/lib/rancher/k3s/agent/containerd/io.containerd.content.v1.content",
            }
        }
    },
    "a cache that ends with the pod": {"peerd": {"cache": {"hostPath": "", "size": 10737418240}}},
    "every option": {
        "peerd": {
            "logLevel": "debug",
            "logFormat": "text",
            "zone": "zone-1",
            "filterFalsePositiveRate": 0.001,
            "cache": {"size": "20GiB", "chunkSize": 4194304, "prefetch": False},
            "upstream": {
                "registries": {"example.local": "http://10.0.0.7:5000", "other.local:5000": "https://10.0.0.8"},
                "defaultRegistry": "example.local",
                "pullThrough": False,
                "credentialsSecret": "pull-secret",
                "allow": ["*.example.local", "10.0.0.9:9000"],
                "denyUnlisted": True,
                "caConfigMap": "upstream-ca",
                "tagTTL": "1m",
                "mirrorTimeout": "2s",
                "consent": "upstream",
                "consentTTL": 90,
            },
            "containerd": {"namespace": "moby", "shareFilter": r"^ghcr\.io/"},
            "uploads": {"limit": "50MiB", "max": 8},
            "drainSeconds": 90,
        }
    },
    "all that Prometheus and Grafana take": {
        "peerd": {
            "metrics": {
                "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "30s"},
                "serviceMonitor": {"enabled": True},
                "prometheusRule": {"enabled": True, "labels": {"role": "alert-rules"}},
                "grafanaDashboard": {
                    "enabled": True,
                    "namespace": "monitoring",
                    "annotations": {"grafana_folder": "peerd"},
                },
            }
        }
    },
    "no help at the end": {"peerd": {"uninstall": {"restoreHosts": False}}},
    "the cache deleted at the end": {"peerd": {"uninstall": {"deleteCache": True, "timeoutSeconds": 60}}},
    "names and places of one's own": {
        "nameOverride": "mirror",
        "peerd": {"namespace": {"k8s": "", "create": False}, "serviceAccount": {"annotations": {"a": "b"}}},
    },
    "pods as one wants them": {
        "peerd": {
            "image": {"pullSecrets": ["a", "b"], "pullPolicy": "Always"},
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi", "cpu": 2}},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "nodeSelector": {"pool": "gpu"},
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [{"key": "virtual", "operator": "DoesNotExist"}]}]
                    }
                }
            },
            "priorityClassName": "",
            "maxUnavailable": 1,
            "podLabels": {"team": "platform"},
            "podAnnotations": {"note": "x"},
            "podSecurityContext": {"seLinuxOptions": {"type": "spc_t"}},
            "extraArgs": ["--no-prefetch", "--max-uploads", 4],
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        }
    },
}
"""By what is special about them."""

NOTHING_SAID: dict[str, Any] = {"peerd": {"tolerations": None, "nodeSelector": None, "hosts": None, "join": None}}
"""`null` takes a default away."""

GIVEN_SECRETS = {
    "my-ca": ("tls.crt", "tls.key"),
    "my-serf": ("serf.key",),
    "pull-secret": (".dockerconfigjson",),
}
GIVEN_CONFIG_MAPS = {"upstream-ca": ("ca.crt",)}
