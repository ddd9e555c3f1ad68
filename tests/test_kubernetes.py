"""The manifests for Kubernetes: against published schemas, as kustomize builds them, and with real daemons as pods.

No cluster runs here.
"""

import copy
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import pytest
import yaml
from conftest import StartDaemon
from image import ANYBODY
from kustomize import Manifest, build, needs_kustomize, of_kind
from running import ROOT, Daemon, Prometheus, eventually, fetch, names_with
from support import DATA

from vcc_exporter import __version__, cli
from vcc_exporter.shards import shard_of
from vcc_exporter.simulator import CENTRES, Simulator

FOLDER: Final = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
VERSIONS: Final = ("1.28", kubernetes_validate.latest_version())
"""Of Kubernetes: the first one that gives a pod the label with its number, and the newest whose schemas are here."""
OF_OPERATOR: Final = {path.stem for path in (DATA / "crds").glob("*.json")}
DOCUMENT: Final = (ROOT / "docs" / "kubernetes.md").read_text()


def total_shards(stateful_set: Manifest) -> str:
    """Return of how many shards a pod is told."""
    (value,) = (env["value"] for env in container(stateful_set)["env"] if env["name"] == "TOTAL_SHARDS")
    assert isinstance(value, str)
    return value


def container(stateful_set: Manifest) -> Manifest:
    """Return the one container of a pod."""
    (found,) = stateful_set["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


PLAIN: Final[list[Manifest]] = [yaml.safe_load((FOLDER / name).read_text()) for name in KUSTOMIZATION["resources"]]
"""The manifests as they are checked in."""
SERVICE, STATEFUL_SET, MONITOR, RULES = (
    of_kind(PLAIN, kind) for kind in ("Service", "StatefulSet", "ServiceMonitor", "PrometheusRule")
)
POD: Final[Manifest] = STATEFUL_SET["spec"]["template"]
CONTAINER: Final = container(STATEFUL_SET)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Copy the folder, as a user does who changes it."""
    return Path(shutil.copytree(FOLDER, tmp_path / "kubernetes"))


# The schemas.


def closed(schema: Any) -> Any:
    """Return a schema that refuses keys that it does not name, which a server would drop or refuse."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    own = {key: closed(part) for key, part in schema.items()}
    is_object = isinstance(own.get("properties"), dict) and own.get("type") == "object"
    return {"additionalProperties": False, **own} if is_object else own


def validate(manifest: Manifest, version: str) -> None:
    """Hold a manifest against the schema of its kind, unknown keys being faults."""
    if manifest["kind"] not in OF_OPERATOR:
        kubernetes_validate.validate(manifest, version, strict=True)
        return
    schema = closed(json.loads((DATA / "crds" / f"{manifest['kind']}.json").read_text()))
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(manifest, schema)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", PLAIN, ids=lambda manifest: manifest["kind"])
def test_each_manifest_is_what_its_schema_says(manifest: Manifest, version: str) -> None:
    """Kubernetes' own schemas and the operator's know every key and take every value."""
    validate(manifest, version)


@needs_kustomize
@pytest.mark.parametrize("version", VERSIONS)
def test_what_kustomize_makes_is_what_the_schemas_say(version: str) -> None:
    """So are the manifests that would be applied, the ConfigMap among them."""
    built = build(FOLDER)
    assert sorted(manifest["kind"] for manifest in built) == sorted(["ConfigMap", *(m["kind"] for m in PLAIN)])
    for manifest in built:
        validate(manifest, version)


def broken() -> Iterator[tuple[str, Manifest]]:
    """Yield manifests with a fault each."""
    for manifest, path, value in (
        (STATEFUL_SET, ("spec", "replica"), 1),
        (STATEFUL_SET, ("spec", "replicas"), "1"),
        (STATEFUL_SET, ("spec", "template", "spec", "containers"), {}),
        (STATEFUL_SET, ("spec", "template", "spec", "securityContext", "runAsRoot"), False),
        (SERVICE, ("spec", "ports"), 10742),
        (MONITOR, ("spec", "endpoint"), []),
        (MONITOR, ("spec", "endpoints"), [{"port": "http", "honorLabel": True}]),
        (MONITOR, ("spec", "endpoints"), [{"port": "http", "interval": "often"}]),
        (MONITOR, ("spec", "endpoints"), [{"relabelings": [{"action": "rename"}]}]),
        (RULES, ("spec", "groups"), [{"name": "a", "rules": [{"alert": "A"}]}]),
        (RULES, ("spec", "groups"), [{"name": "a", "rules": [{"alert": "A", "expr": "1", "for": "a while"}]}]),
    ):
        bad = copy.deepcopy(manifest)
        inner = bad
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        yield f"{manifest['kind']} {path[-1]} {value}", bad


@pytest.mark.parametrize(("fault", "manifest"), list(broken()), ids=[fault for fault, _ in broken()])
def test_the_schemas_refuse_what_is_wrong(fault: str, manifest: Manifest) -> None:
    """A misspelt key, a wrong type and a value that cannot be are faults."""
    assert fault
    with pytest.raises(jsonschema.ValidationError):
        validate(manifest, VERSIONS[-1])


# One place for the number of shards.


def set_replicas(folder: Path, count: int) -> None:
    """Change the number of shards as a user does, in the one place."""
    path = folder / "kustomization.yaml"
    text, found = re.subn(r"(?m)^    count: \d+$", f"    count: {count}", path.read_text())
    assert found == 1
    path.write_text(text)


@needs_kustomize
@pytest.mark.parametrize("count", [1, 2, 12])
def test_replicas_and_total_shards_agree(copied: Path, count: int) -> None:
    """Whatever number stands in the kustomization, each pod is told the number of pods."""
    set_replicas(copied, count)
    stateful_set = of_kind(build(copied), "StatefulSet")
    assert stateful_set["spec"]["replicas"] == count
    assert total_shards(stateful_set) == str(count)


def test_the_number_of_shards_stands_nowhere_else() -> None:
    """Without kustomize nothing has a number that could disagree, and the exporter refuses to start without one."""
    assert "replicas" not in STATEFUL_SET["spec"]
    assert total_shards(STATEFUL_SET) == ""
    ((replacement,), ((name, count),)) = (
        KUSTOMIZATION["replacements"],
        [(r["name"], r["count"]) for r in KUSTOMIZATION["replicas"]],
    )
    assert (name, count) == (STATEFUL_SET["metadata"]["name"], 1)
    assert replacement["source"] == {"kind": "StatefulSet", "name": name, "fieldPath": "spec.replicas"}
    with pytest.raises(SystemExit) as ended:
        cli.run(["--shard=0", "--total-shards="])
    assert ended.value.code == 2


@needs_kustomize
def test_the_documents_own_kustomization_tells_its_number_too(copied: Path) -> None:
    """One that has this folder as its base, with another number, config and namespace, as the document has it."""
    (block,) = re.findall(r"<!-- overlay -->\n```yaml\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    own = copied.parent / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text(block)
    (own / "config.yaml").write_text("customers: []\n")
    built = build(own)
    for manifest in built:
        validate(manifest, VERSIONS[-1])
        assert manifest["metadata"]["namespace"] == "monitoring"
    stateful_set = of_kind(built, "StatefulSet")
    assert total_shards(stateful_set) == str(stateful_set["spec"]["replicas"]) == "4"
    assert of_kind(built, "ConfigMap")["data"] == {"config.yaml": "customers: []\n"}


@needs_kustomize
def test_without_the_operators_manifests_the_rest_is_whole(copied: Path) -> None:
    """Where there is no operator its two lines are left out, as the document says."""
    path = copied / "kustomization.yaml"
    path.write_text(re.sub(r"  - (servicemonitor|prometheusrule)\.yaml\n", "", path.read_text()))
    assert {manifest["kind"] for manifest in build(copied)} == {"ConfigMap", "Service", "StatefulSet"}


@needs_kustomize
def test_a_changed_config_is_another_config_map_and_so_a_rollout(copied: Path) -> None:
    """Its name is made from its contents, and the pod names it."""

    def names() -> tuple[str, str]:
        built = build(copied)
        volumes = of_kind(built, "StatefulSet")["spec"]["template"]["spec"]["volumes"]
        (mounted,) = (volume["configMap"]["name"] for volume in volumes if "configMap" in volume)
        return of_kind(built, "ConfigMap")["metadata"]["name"], mounted

    before = names()
    assert before[0] == before[1]
    path = copied / "config.yaml"
    path.write_text(path.read_text().replace("acme", "globex"))
    after = names()
    assert after[0] == after[1] != before[0]


# What the manifests say, against the program and against each other.


def expanded(argument: str, env: Mapping[str, str]) -> str:
    """Return an argument as a pod's container gets it."""
    return re.sub(r"\$\((\w+)\)", lambda name: env[name[1]], argument)


@pytest.fixture
def pods(start_daemon: StartDaemon, tmp_path: Path, no_environment: None) -> Iterator[list[Daemon]]:
    """Start the exporter three times as three pods would, on a config of the simulator's call centres."""
    assert no_environment is None
    with Simulator(CENTRES) as simulator:
        mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
        for inside in mounts.values():
            (tmp_path / inside.lstrip("/")).mkdir(parents=True)
        keys = mounts["keys"]
        (tmp_path / mounts["config"].lstrip("/") / "config.yaml").write_text(
            "poll: {interval: 1s}\ncustomers:\n"
            + "".join(
                f"  - {{name: {c.customer}, url: '{simulator.url}', timezone: {c.zone}, "
                f"api_key_file: '{tmp_path}{keys}/{c.customer}'}}\n"
                for c in CENTRES
            )
        )
        for centre in CENTRES:
            (tmp_path / keys.lstrip("/") / centre.customer).write_text(centre.key)
        yield [
            start_daemon(
                "", *(expanded(argument, env).replace("=/", f"={tmp_path}/") for argument in CONTAINER["args"])
            )
            for env in ({"POD_INDEX": str(number), "TOTAL_SHARDS": "3"} for number in range(3))
        ]


def test_each_pods_arguments_start_its_shard_and_each_probe_is_answered(pods: list[Daemon]) -> None:
    """With the environment that a pod has, the args are the program's flags; together, all customers are served."""
    for number, pod in enumerate(pods):
        for probe in ("livenessProbe", "readinessProbe"):
            asked = CONTAINER[probe]["httpGet"]
            eventually(lambda url=f"{pod.url}{asked['path']}": fetch(url)[0] == HTTPStatus.OK, probe)  # type: ignore[misc]
            assert asked["port"] == "http"
        for centre in CENTRES:
            served = bool(names_with(pod.page(), customer=centre.customer))
            assert served == (shard_of(centre.customer, len(pods)) == number)


def test_the_pods_number_is_of_the_label_that_kubernetes_gives_it() -> None:
    """The environment of the args is set: by the label, and by kustomize."""
    sources = {env["name"]: env for env in CONTAINER["env"]}
    assert set(re.findall(r"\$\((\w+)\)", " ".join(CONTAINER["args"]))) == set(sources)
    label = sources["POD_INDEX"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert label == "metadata.labels['apps.kubernetes.io/pod-index']"


def test_the_config_is_good_and_its_key_is_an_entry_of_the_secret() -> None:
    """`check-config` has nothing to remark but that the key is not here; it lies where the Secret is mounted."""
    (entry,) = KUSTOMIZATION["configMapGenerator"]
    (config,) = entry["files"]
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert f"--config.file={mounts['config']}/{config}" in CONTAINER["args"]
    command = [sys.executable, str(ROOT / "exporter.py"), "check-config", f"--config.file={FOLDER / config}"]
    checked = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert "good, with 1 warning" in checked.stdout
    assert f"the file {mounts['keys']}/acme cannot be read" in checked.stderr
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] == entry["name"]
    assert volumes["keys"]["secret"]["secretName"] == "vcc-exporter-keys"
    assert volumes["keys"]["secret"]["defaultMode"] == 0o440
    assert {name for name in volumes if name not in mounts} == set()


def test_the_pod_may_do_nothing_that_it_need_not() -> None:
    """What the strictest of Kubernetes' pod security standards asks for, and more: no token, no writable root."""
    spec, own = POD["spec"], CONTAINER["securityContext"]
    whole = spec["securityContext"]
    assert (whole["runAsNonRoot"], whole["runAsUser"], whole["runAsGroup"]) == (True, ANYBODY, ANYBODY)
    assert whole["fsGroup"] == ANYBODY, "or the keys cannot be read"
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert all(mount["readOnly"] for mount in CONTAINER["volumeMounts"])
    assert set(CONTAINER["resources"]) == {"requests", "limits"}


def test_names_labels_and_ports_find_each_other() -> None:
    """The Service finds the pods, the StatefulSet the Service, the monitor the Service and its port."""
    labels = POD["metadata"]["labels"]
    assert STATEFUL_SET["spec"]["selector"]["matchLabels"] == labels == SERVICE["spec"]["selector"]
    assert STATEFUL_SET["spec"]["serviceName"] == SERVICE["metadata"]["name"]
    assert SERVICE["spec"]["clusterIP"] == "None"
    assert MONITOR["spec"]["selector"]["matchLabels"] == SERVICE["metadata"]["labels"]
    ((port,), (endpoint,), (opened,)) = SERVICE["spec"]["ports"], MONITOR["spec"]["endpoints"], CONTAINER["ports"]
    assert endpoint["port"] == port["name"]
    assert port["targetPort"] == opened["name"]
    (default,) = (flag.default for flag in cli.FLAGS if flag.name == "--web.listen-address")
    assert f":{opened['containerPort']}" == f":{port['port']}" == default
    assert endpoint["honorLabels"] is True


def test_the_image_has_the_programs_version() -> None:
    """The tag that the kustomization gives is this version's."""
    (image,) = KUSTOMIZATION["images"]
    assert image["name"] == CONTAINER["image"]
    assert image["newTag"] == __version__


# The rules and the job, in a real Prometheus.


def test_the_rule_object_has_the_rules_of_the_files_and_promtool_takes_them(tmp_path: Path) -> None:
    """Both files' groups, as they are; the operator writes them into a file as this test does."""
    files = ("vcc-inbound.rules.yml", "vcc.alerts.yml")
    groups = [yaml.safe_load((ROOT / "prometheus" / "rules" / name).read_text())["groups"] for name in files]
    assert RULES["spec"]["groups"] == [group for of_file in groups for group in of_file]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(RULES["spec"]))
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, check=False)  # noqa: S603, S607
    assert done.returncode == 0, done.stdout + done.stderr


def snake(name: str) -> str:
    """Return a key of the operator as Prometheus spells it."""
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def test_prometheus_asks_each_pod_as_the_monitor_says(
    pods: list[Daemon], start_prometheus: Callable[[list[dict[str, Any]]], Prometheus]
) -> None:
    """The monitor's endpoint, as the operator writes it for Prometheus, gives each pod's name and the alerts' job."""
    (endpoint,) = MONITOR["spec"]["endpoints"]
    found = [
        {"targets": [pod.addresses[0]], "labels": {"__meta_kubernetes_pod_name": f"vcc-exporter-{n}", "customer": "x"}}
        for n, pod in enumerate(pods)
    ]
    relabelled = [{snake(key): value for key, value in rule.items()} for rule in endpoint["relabelings"]]
    job = {"job_name": "serviceMonitor/default/vcc-exporter/0", "relabel_configs": relabelled}
    job |= {"honor_labels": endpoint["honorLabels"], "static_configs": found}
    prometheus = start_prometheus([job])
    prometheus.wait_until_scraped(len(pods))
    names = {f"vcc-exporter-{n}" for n in range(len(pods))}
    eventually(lambda: len(prometheus.query("vcc_up == 1")) == len(CENTRES), "all customers")
    up = prometheus.query('up{job="vcc"} == 1')
    assert {dict(labels)["instance"] for labels in up} == names
    served = {dict(labels)["customer"] for labels in prometheus.query("vcc_up")}
    assert served == {centre.customer for centre in CENTRES}


# The document.


def commands() -> list[list[str]]:
    """Return the document's commands as words."""
    blocks = re.findall(r"^( *)```sh\n(.*?)^ *```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for _, text in blocks for line in text.replace("|\n", "\n").splitlines()]


def test_the_documents_commands_name_what_exists() -> None:
    """Names of objects, the folder, the pod and its port are the manifests'."""
    known = {
        f"statefulset/{STATEFUL_SET['metadata']['name']}",
        f"pod/{STATEFUL_SET['metadata']['name']}-0",
        str(CONTAINER["ports"][0]["containerPort"]),
        f"--kustomize={FOLDER.relative_to(ROOT)}",
        next(v["secret"]["secretName"] for v in POD["spec"]["volumes"] if "secret" in v),
        "--filename=-",
    }
    found = [words for words in commands() if words[0] == "kubectl"]
    for words in found:
        assert known & set(words), words
    assert [words[1] for words in found] == ["create", "apply", "rollout", "port-forward", "create", "apply"]


def test_the_documents_check_is_good() -> None:
    """The one command that needs no cluster ends well as it stands."""
    (check,) = (words for words in commands() if words[0] != "kubectl")
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    assert "good, with 1 warning" in done.stdout


@needs_kustomize
def test_the_documents_secrets_have_the_entries_that_the_config_asks_for(tmp_path: Path) -> None:
    """Both commands make a Secret whose entry is the name of the key's file, without asking a cluster."""
    (tmp_path / "acme.key").write_text("k3y\n")
    for words in (words for words in commands() if words[:2] == ["kubectl", "create"]):
        dry = [
            *(word for word in words if not word.startswith(("--dry", "--out"))),
            "--dry-run=client",
            "--output=json",
        ]
        made = subprocess.run(dry, cwd=tmp_path, capture_output=True, text=True, check=True)  # noqa: S603
        assert list(json.loads(made.stdout)["data"]) == ["acme"]
    assert "/run/secrets/vcc-exporter/acme" in (FOLDER / "config.yaml").read_text()
    assert "/run/secrets/vcc-exporter/acme" in DOCUMENT
