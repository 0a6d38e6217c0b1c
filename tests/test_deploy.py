"""``deploy/``: systemd's units and the manifests of Kubernetes are what systemd and Kubernetes take."""

from __future__ import annotations

import base64
import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import _support
from wormhole_tw.agent.config import AgentConfig
from wormhole_tw.cli.agent_options import AgentOptions
from wormhole_tw.cli.edge_check import check
from wormhole_tw.cli.main import main
from wormhole_tw.cli.units import PROGRAM, edge_unit
from wormhole_tw.control.acme import ExternalAccountTable
from wormhole_tw.control.config import EdgeConfig
from wormhole_tw.control.dns import UpdateTable
from wormhole_tw.control.tables import CertificateTable

DEPLOY = _support.ROOT / "deploy"
UNITS = {"edge": DEPLOY / "systemd" / "wormhole-edge.service", "agent": DEPLOY / "systemd" / "wormhole-agent.service"}
KUSTOMIZATIONS = {name: DEPLOY / "kubernetes" / name for name in ("edge", "sidecar")}
VERSIONS = ("1.27", "1.34")
"""Of Kubernetes: the oldest and the newest that the manifests are checked for."""

try:
    import kubernetes_validate
    import yaml
except ImportError:
    kubernetes_validate = yaml = None  # type: ignore[assignment]


# systemd.


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [_support.require_program("systemd-analyze"), "--no-pager", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def exposure(unit: Path) -> float:
    """What ``systemd-analyze security`` makes of a unit, from 0, as good as nothing, to 10."""
    done = analyze("security", "--offline=true", unit)
    (level,) = re.findall(r"Overall exposure level for \S+: (\d+\.\d+)", done.stdout)
    return float(level)


@pytest.fixture
def units(tmp_path: Path) -> dict[str, Path]:
    """The units, with a program that is there."""
    program = tmp_path / "wormhole-tw"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    found = {}
    for name, unit in UNITS.items():
        found[name] = tmp_path / unit.name
        found[name].write_text(unit.read_text().replace(PROGRAM, str(program)))
    return found


def test_the_edges_unit_is_what_edge_init_writes() -> None:
    assert UNITS["edge"].read_text() == edge_unit()


@pytest.mark.requires_program("systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_a_unit(name: str, units: dict[str, Path]) -> None:
    done = analyze("verify", "--recursive-errors=no", units[name])
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    units[name].write_text(units[name].read_text().replace("ProtectHome=yes", "ProtectHome=perhaps"))
    assert "perhaps" in analyze("verify", "--recursive-errors=no", units[name]).stderr


@pytest.mark.requires_program("systemd-analyze")
@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_exposed_to_little(name: str, units: dict[str, Path]) -> None:
    assert exposure(units[name]) <= 2.0
    assert analyze("security", "--offline=true", "--threshold=20", units[name]).returncode == 0
    assert analyze("security", "--offline=true", "--threshold=5", units[name]).returncode != 0


@pytest.mark.requires_program("systemd-analyze")
def test_the_unit_of_a_new_edge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [
        "edge",
        "init",
        "--mode",
        "dev",
        "--hostname",
        "edge.example.com",
        "--program",
        shutil.which("true") or "",
    ]
    assert main(command) == 0
    done = analyze("verify", "--recursive-errors=no", tmp_path / "wormhole-edge.service")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert analyze("security", "--offline=true", "--threshold=20", tmp_path / "wormhole-edge.service").returncode == 0


def service(unit: Path) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(unit)
    return parser["Service"]


def test_both_units_have_the_same_sandbox() -> None:
    edge, agent = (dict(service(unit)) for unit in UNITS.values())
    own = {"ExecStart", "ExecReload", "User", "StateDirectory", "StateDirectoryMode", "LoadCredential", "Environment"}
    rights = {"AmbientCapabilities", "CapabilityBoundingSet", "PrivateUsers"}
    assert {key: value for key, value in edge.items() if key not in own | rights} == {
        key: value for key, value in agent.items() if key not in own | rights
    }
    assert edge["AmbientCapabilities"] == edge["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    assert agent["CapabilityBoundingSet"] == ""
    assert "AmbientCapabilities" not in agent


def test_the_agents_unit_starts_an_agent(tmp_path: Path) -> None:
    text = UNITS["agent"].read_text()
    environment = dict(line.split("=", 1) for line in re.findall(r"^Environment=(.*)$", text, re.MULTILINE))
    _, command, *arguments = service(UNITS["agent"])["ExecStart"].split()
    assert command == "agent"
    (tmp_path / "token").write_text("wh_x\n")
    options = AgentOptions()
    options.parseOptions([word.replace("%d", str(tmp_path)) for word in arguments])
    config = AgentConfig.from_environment(environment, options, folder=None)
    assert (config.token, config.edges, config.local) == ("wh_x", ["edge.example.com"], "127.0.0.1:8000")


# Kubernetes.


@pytest.fixture(autouse=True)
def _yaml(request: pytest.FixtureRequest) -> None:
    if "manifest" in request.node.name and yaml is None:
        _support.missing("kubernetes-validate")


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def kustomization(name: str) -> dict[str, Any]:
    (document,) = documents(KUSTOMIZATIONS[name] / "kustomization.yaml")
    return document


def resources(name: str) -> list[dict[str, Any]]:
    """What a kustomization names, its generated parts too."""
    folder, said = KUSTOMIZATIONS[name], kustomization(name)
    found = [document for file in said["resources"] for document in documents(folder / file)]
    for generator in said.get("configMapGenerator", []):
        data = {file: (folder / file).read_text() for file in generator["files"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
    for generator in said.get("secretGenerator", []):
        # These files are the operator's, none is here.
        data = {file: base64.b64encode(b"secret").decode() for file in generator["files"]}
        assert not any((folder / file).exists() for file in generator["files"])
        found.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": generator["name"]}, "data": data})
    return found


def one(name: str, kind: str) -> dict[str, Any]:
    (found,) = [resource for resource in resources(name) if resource["kind"] == kind]
    return found


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = one(name, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(name: str, which: str) -> dict[str, Any]:
    (found,) = [container for container in pod(name)["containers"] if container["name"] == which]
    return dict(found)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_manifests_are_valid(name: str, version: str) -> None:
    for resource in resources(name):
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_wrong_manifest_would_be_found() -> None:
    deployment = one("sidecar", "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][1]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_every_manifest_is_named_once(name: str) -> None:
    said = kustomization(name)
    assert (said["apiVersion"], said["kind"]) == ("kustomize.config.k8s.io/v1beta1", "Kustomization")
    generated = [
        file for kind in ("configMapGenerator", "secretGenerator") for file in said.get(kind, [{}])[0].get("files", [])
    ]
    there = {path.name for path in KUSTOMIZATIONS[name].iterdir()} - {"kustomization.yaml"}
    assert sorted(there) == sorted({*said["resources"], *generated} & there)
    assert set(said["resources"]) <= there
    identities = [(resource["kind"], resource["metadata"]["name"]) for resource in resources(name)]
    assert len(identities) == len(set(identities))
    images = {image["name"] for image in said["images"]}
    assert images == {container["image"] for container in pod(name)["containers"]}


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_the_selectors_of_manifests_match(name: str) -> None:
    deployment = one(name, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert one(name, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    for service in (resource for resource in resources(name) if resource["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= labels.items()
        named = {port["name"] for container in pod(name)["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_what_manifests_refer_to_is_there(name: str) -> None:
    volumes = {volume["name"]: volume for volume in pod(name)["volumes"]}
    mounted = [mount["name"] for container in pod(name)["containers"] for mount in container.get("volumeMounts", [])]
    assert sorted(mounted) == sorted(volumes)
    for volume in volumes.values():
        if "configMap" in volume:
            assert one(name, "ConfigMap")["metadata"]["name"] == volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            claim = one(name, "PersistentVolumeClaim")["metadata"]["name"]
            assert claim == volume["persistentVolumeClaim"]["claimName"]
    for container in pod(name)["containers"]:
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                reference, secret = variable["valueFrom"]["secretKeyRef"], one(name, "Secret")
                assert (reference["name"], [reference["key"]]) == (secret["metadata"]["name"], [*secret["data"]])


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_manifests_give_no_rights(name: str) -> None:
    # What Kubernetes calls restricted (Pod Security Standards), and a root that is not written to.
    spec = pod(name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not {"privileged", "procMount"} & set(context)
    for ours in (container for container in spec["containers"] if container["image"].startswith("wormhole-")):
        assert ours["securityContext"]["readOnlyRootFilesystem"] is True
        user = {**spec["securityContext"], **ours["securityContext"]}["runAsUser"]
        containerfile = (DEPLOY / ours["image"].removeprefix("wormhole-") / "Containerfile").read_text()
        assert f"\nUSER {user}:{user}\n" in containerfile
        assert ours["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in ours["resources"]["limits"]


def test_the_manifest_of_the_sidecar_has_wormholes_environment() -> None:
    agent = container("sidecar", "agent")
    assert agent["env"] == [
        {"name": "FLY_TOKEN", "valueFrom": {"secretKeyRef": {"name": "wormhole", "key": "token"}}},
        {"name": "FLY_LOCAL_ENDPOINT", "value": "127.0.0.1:8080"},
    ]
    assert "envFrom" not in agent
    # Kubernetes adds variables for each Service of the namespace otherwise.
    assert pod("sidecar")["enableServiceLinks"] is False
    options = AgentOptions()
    options.parseOptions(agent["args"])
    config = AgentConfig.from_environment(
        {"FLY_TOKEN": "x", "FLY_LOCAL_ENDPOINT": "127.0.0.1:8080"}, options, folder=None
    )
    assert config.edges == ["edge.example.com"]
    # The probe looks at the file that the agent keeps, in the volume that it may write to.
    assert agent["readinessProbe"]["exec"]["command"] == ["cat", config.ready_file]
    (mount,) = agent["volumeMounts"]
    assert config.ready_file == f"{mount['mountPath']}/ready"
    assert pod("sidecar")["terminationGracePeriodSeconds"] > config.drain


def test_the_manifest_of_the_sidecar_keeps_the_service_while_the_agent_drains() -> None:
    program, seconds = container("sidecar", "app")["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    # It is a part of the time that the pod has, in which the service has to end too.
    assert 0 < int(seconds) <= AgentConfig.drain < pod("sidecar")["terminationGracePeriodSeconds"]


def test_the_manifest_of_the_sidecar_lets_out_its_edge_and_dns_only() -> None:
    policy = one("sidecar", "NetworkPolicy")["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    assert policy["ingress"] == []
    edge, dns = policy["egress"]
    assert edge == {"ports": [{"protocol": "TCP", "port": 443}]}
    assert {(port["protocol"], port["port"]) for port in dns["ports"]} == {("UDP", 53), ("TCP", 53)}
    assert dns["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]


def test_the_manifest_of_the_edge_and_its_file_agree() -> None:
    config = EdgeConfig.load(KUSTOMIZATIONS["edge"] / "edge.toml")
    ports = {port["name"]: port["containerPort"] for port in container("edge", "edge")["ports"]}
    assert [listener.port for listener in config.listeners] == [ports["https"], ports["http"]]
    assert config.admin == f"tcp:{ports['admin']}"
    shown = {port["name"]: port["port"] for port in one("edge", "Service")["spec"]["ports"]}
    assert shown == {"https": config.public_https_port, "http": 80}
    assert pod("edge")["terminationGracePeriodSeconds"] > config.limits.drain
    arguments = container("edge", "edge")["args"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container("edge", "edge")["volumeMounts"]}
    assert arguments == ["--config", f"{mounts['config']}/edge.toml", "--state", f"{mounts['state']}/state"]
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        assert container("edge", "edge")[probe]["httpGet"] == {"path": path, "port": "admin"}


def test_the_edges_file_in_the_manifests_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(str(KUSTOMIZATIONS["edge"] / "edge.toml")) == 0
    assert "warning" not in capsys.readouterr().out


@pytest.fixture
def kubectl() -> str:
    """kubectl is in no package that CI could install everywhere, so this is a look besides."""
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not here; the other tests read the kustomizations themselves")
    return found


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_kubectl_builds_the_manifests(name: str, kubectl: str, tmp_path: Path) -> None:
    shutil.copytree(KUSTOMIZATIONS[name], tmp_path / name)
    (tmp_path / name / "token").write_text("wh_x\n")
    done = subprocess.run(
        [kubectl, "kustomize", str(tmp_path / name)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert sorted(resource["kind"] for resource in built) == sorted(resource["kind"] for resource in resources(name))
    for resource in built:
        kubernetes_validate.validate(resource, VERSIONS[-1], strict=True)


# docs/deploy.md.

PAGE = (_support.ROOT / "docs" / "deploy.md").read_text()


def commands(text: str) -> list[str]:
    """What a reader types: the lines of the blocks with a prompt."""
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith(("$ ", "# "))]


def test_the_page_has_every_option_of_edge_init(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["edge", "init", "--help"])
    of_code = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert set(re.findall(r"^\| `(--[a-z-]+)", PAGE, re.MULTILINE)) == of_code


def test_the_first_command_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(commands(PAGE)[0])
    assert program == "wormhole-tw"
    assert main(words) == 0
    told = set(re.findall(r"^\| `([a-z.-]+)` \|", PAGE.split("## systemd")[0], re.MULTILINE))
    assert told == {path.name for path in tmp_path.iterdir()}


def test_the_page_and_edge_init_say_the_same_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["edge", "init", "--hostname", "edge.example.com", "--email", "you@example.com"]) == 0
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    edge = PAGE.split("### The edge\n")[1].split("After a change")[0]
    assert len(commands(edge)) == 4
    assert [command for command in commands(edge) if command not in printed] == []
    [status] = [command for command in commands(PAGE) if " edge certificates " in command]
    assert status in printed


@pytest.mark.requires_program("systemd-analyze")
def test_the_page_states_the_exposure(units: dict[str, Path]) -> None:
    (version, *said), *_ = re.findall(
        r"`systemd-analyze security` of systemd (\d+) gives it (\d\.\d) and the agent (\d\.\d)", PAGE
    )
    if not analyze("--version").stdout.startswith(f"systemd {version} "):
        pytest.skip(f"the page speaks of systemd {version}")  # each release asks for more
    assert [float(level) for level in said] == [exposure(units["edge"]), exposure(units["agent"])]


def test_the_secrets_on_the_page_are_those_of_the_unit() -> None:
    asked = re.findall(r"^LoadCredential=(.*)$", UNITS["edge"].read_text(), re.MULTILINE)
    rows = re.findall(r"^\| `/etc/credstore/(\S+)` \| `(\S+)`: `(\w+) = \"(\S+)\"` \|$", PAGE, re.MULTILINE)
    assert [row[0] for row in rows] == asked
    tables = {"[tls.external_account]": ExternalAccountTable, "[tls.dns.rfc2136]": UpdateTable}
    for name, table, key, path in rows:
        assert path == f"/run/credentials/{UNITS['edge'].name}/{name}"
        assert key in tables.get(table, CertificateTable).__struct_fields__


def test_the_agents_lines_on_the_page_are_those_of_its_unit() -> None:
    (block,) = re.findall(r"^```ini\n\[Service\]\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert block in UNITS["agent"].read_text()
    (token,) = [command for command in commands(PAGE) if command.endswith(".token")]
    assert service(UNITS["agent"])["LoadCredential"] == f"token:{token.split()[-1]}"


def test_what_the_page_names_is_there() -> None:
    named = set(re.findall(r"deploy/[\w./-]+[\w]", PAGE)) - {"deploy/kubernetes/sidecar/token"}
    assert {"deploy/systemd/wormhole-agent.service", "deploy/edge/Containerfile", "deploy/kubernetes/edge"} <= named
    assert [name for name in named if not (_support.ROOT / name).exists()] == []


def test_containers_on_the_page_are_run_as_the_images_want() -> None:
    runs = [shlex.split(command) for command in commands(PAGE) if command.startswith("podman run")]
    assert [words[-1] for words in runs] == ["wormhole-edge", "wormhole-agent"]
    for words in runs:
        assert "--read-only" in words
        assert words[words.index("--cap-drop") + 1] == "all"
    mounted = [words.split(":")[1] for words in runs[0] if words.count(":") and "/" in words and "tcp" not in words]
    assert mounted == ["/etc/wormhole-tw/edge.toml", "/var/lib/wormhole-edge"]
    given = {word.split("=")[0] for word in runs[1] if word.startswith("FLY_")}
    assert given == {"FLY_TOKEN", "FLY_REMOTE_ENDPOINT", "FLY_LOCAL_ENDPOINT"}
    builds = [shlex.split(command) for command in commands(PAGE) if command.startswith("podman build")]
    for words in builds:
        first = (_support.ROOT / words[words.index("-f") + 1]).read_text().splitlines()[0]
        assert first.endswith(" && " + shlex.join(words)), "the file says how it is built"
