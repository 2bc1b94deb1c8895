"""Checks deploy/kubernetes: each object against the schemas of Kubernetes, each configuration by the program, and that both speak of the same ports and times.

usage: check_manifests.py [FARTHING]

Exit code 1 with the reason when something does not hold.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
# The one whose objects all are in; sidecars came with 1.29.
VERSIONS = ("1.29", "1.37")


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)(ms|s|m)", text).groups()
    return float(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def checked(program: Path, text: str, secrets: list[str]) -> None:
    """The program reads the configuration, with all that it takes from the environment."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "farthing.toml"
        # Only the place of the state is another one.
        path.write_text(text.replace("/var/lib/farthing", folder))
        known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        told = subprocess.run([program, "check", "--config", path], env=known | dict.fromkeys(secrets, "k" * 40), capture_output=True, text=True)
        assert told.returncode == 0 and "warning" not in told.stderr, told.stdout + told.stderr


def pods(documents: list[dict]) -> list[dict]:
    return [document["spec"]["template"]["spec"] for document in documents if document["kind"] in ("StatefulSet", "Deployment")]


def containers(pod: dict) -> list[dict]:
    return pod.get("initContainers", []) + pod["containers"]


def fits(config: dict, pod: dict, container: dict) -> None:
    """Ports, probes and times of a pod are those of its configuration."""
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listens = {name: int(config[name]["listen"].rpartition(":")[2]) for name in ("data", "admin")}
    assert all(listens[name] == port for name, port in ports.items()), (ports, listens)
    # The kubelet asks from outside the pod, which needs an address that it reaches, and a token.
    assert config["admin"]["listen"].startswith("0.0.0.0:") and "token" in config["admin"]
    probes = [container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe") if name in container]
    assert probes and all(probe["port"] == "admin" and probe["path"] in ("/livez", "/readyz") for probe in probes), probes
    drain, delay = seconds(config["data"].get("drain", "15s")), seconds(config["data"].get("drain_delay", "0s"))
    assert pod["terminationGracePeriodSeconds"] > drain + delay, (drain, delay)
    if ready := container.get("readinessProbe"):
        assert delay > ready["periodSeconds"] * ready["failureThreshold"], "the port closes before the probe has noticed"
    state = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    for place in (config["state_dir"], config["log"]["dir"], config["models"]["dir"]):
        assert any(place.startswith(path) for path in state), f"{place} is on no volume that can be written"


def used(config: dict) -> None:
    """Each credential of a provider goes out for somebody: a route swaps it in, for whoever shows a key or token."""
    for name, provider in config["providers"].items():
        if "credential" in provider:
            swaps = [route for route in config.get("routes", {}).values() if route["provider"] == name and route.get("credential") == "swap"]
            assert swaps and (config.get("keys") or config.get("jwt")), f"no request can use the credential of {name}"


def main() -> None:
    program = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "target/debug/farthing"
    seen = 0
    for file in sorted((ROOT / "deploy/kubernetes").glob("*.yaml")):
        documents = list(yaml.safe_load_all(file.read_text()))
        for document in documents:
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)
        maps = {document["metadata"]["name"]: document["data"]["farthing.toml"] for document in documents if document["kind"] == "ConfigMap"}
        for pod in pods(documents):
            for container in (container for container in containers(pod) if container["name"] == "farthing"):
                volumes = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
                checked(program, maps[volumes[0]], [variable["name"] for variable in container["env"]])
                fits(tomllib.loads(maps[volumes[0]]), pod, container)
                used(tomllib.loads(maps[volumes[0]]))
                seen += 1
    assert seen == 2, f"{seen} containers of ours were found"
    print(f"manifests: {seen} configurations and their objects, for Kubernetes {' and '.join(VERSIONS)}")


if __name__ == "__main__":
    main()
