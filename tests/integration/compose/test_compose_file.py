"""compose.yaml: valid, hardened, and made of commands, settings and files that exist."""

import json
import re

import pytest
import yaml

from settings.deployment import SECRETS, Deployment, variable
from tests.support.paths import ROOT
from workers.roles import roles

FILE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == FILE["x-process"]["image"]}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_it_follows_the_compose_specification():
    compose_spec = pytest.importorskip("compose_spec", reason="pip install compose-spec (a developer's tool)")
    parsed = compose_spec.PyCompose.from_json(json.dumps(FILE))
    assert len(parsed) == len(SERVICES)


def test_a_misspelt_key_would_be_refused():
    compose_spec = pytest.importorskip("compose_spec", reason="pip install compose-spec (a developer's tool)")
    broken = {**FILE, "services": {**SERVICES, "api": {**SERVICES["api"], "helthcheck": {}}}}
    with pytest.raises(ValueError, match="helthcheck"):
        compose_spec.PyCompose.from_json(json.dumps(broken))


def test_every_role_has_a_service_and_the_wallet_s_only_one_process():
    commands = {tuple(service["command"]) for service in OURS.values()}
    assert {("worker", role) for role in roles(Deployment())} <= commands
    assert SERVICES["chain"].get("deploy", {}).get("replicas", 1) == 1
    assert SERVICES["beat"]["deploy"]["replicas"] == 2
    assert SERVICES["settle"]["deploy"]["replicas"] >= 2


@pytest.mark.parametrize("profile", ["core", "live"])
def test_a_profile_needs_nothing_that_is_not_in_it(profile):
    here = {name for name, service in SERVICES.items() if profile in service["profiles"]}
    for name in here:
        for needed, how in SERVICES[name].get("depends_on", {}).items():
            assert needed in here or not how.get("required", True), f"{name} waits for {needed} for ever"
    aliases = {alias for n in here for alias in _aliases(n)}
    for name in here & OURS.keys():
        for host in re.findall(r"://([a-z-]+):", json.dumps(SERVICES[name].get("environment", {}))):
            assert host in aliases, f"{name} asks for {host}"


def _aliases(name):
    yield name
    networks = SERVICES[name].get("networks", [])
    if isinstance(networks, dict):
        for network in networks.values():
            yield from network.get("aliases", [])


@pytest.mark.parametrize("name", list(OURS))
def test_our_processes_can_write_nowhere_but_to_their_volumes_and_hold_no_privilege(name):
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "stop_grace_period" in service
    assert "healthcheck" in service
    for known in service.get("environment", {}):
        plain = known.removesuffix("_FILE")
        fields = {variable(field) for field in Deployment.model_fields}
        assert plain in {variable(f) for f in SECRETS} or known in fields or known.startswith("BITCOIN_"), known


def test_no_secret_is_in_the_file_and_every_secret_is_a_file():
    text = (ROOT / "compose.yaml").read_text()
    assert not re.search(r"(?i)password(?!_file|__file|:? *\{?file)[\"']?: *[\"']?[A-Za-z0-9$]", text)
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(FILE["secrets"])
    assert all(secret["file"].startswith("./secrets/") for secret in FILE["secrets"].values())
    assert "secrets/" in (ROOT / ".gitignore").read_text().split()


def test_a_service_has_the_secrets_that_it_needs_and_no_other():
    holders = {
        secret: {name for name, service in OURS.items() if secret in service.get("secrets", [])}
        for secret in ("flower_password", "operator_key", "database_url", "broker_key")
    }
    workers = set(roles(Deployment()))
    assert holders["flower_password"] == {"flower"}
    assert holders["operator_key"] == {*workers, "api", "prepare", "coins"}
    assert not {"beat", "beat-live", "flower"} & holders["database_url"]
    assert "metrics" not in holders["broker_key"]
    for name, service in OURS.items():  # a variable that names a file which is not mounted would stop the process
        for variable_, path in service.get("environment", {}).items():
            if str(path).startswith("/run/secrets/") and variable_ != "BTCFI_OPERATOR_KEY_FILE":
                assert path.rpartition("/")[2] in service["secrets"] or variable_ == "BTCFI_BROKER_KEY_FILE", (
                    name,
                    variable_,
                )


def test_only_the_loopback_is_published():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    published = {int(port.rpartition(":")[2]) for port in ports}
    assert {Deployment().api_port, Deployment().flower_port} <= published


def test_every_image_has_a_version():
    for name, service in SERVICES.items():
        assert name in OURS or re.search(r":v?\d+\.\d+", service["image"]), service["image"]
    assert re.findall(r"^ARG BASE=(\S+)", DOCKERFILE, re.MULTILINE) == ["python:3.11.13-slim-bookworm"]
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}"] * 2


def test_the_image_is_built_by_one_service_before_any_of_ours_starts():
    assert [name for name, service in SERVICES.items() if "build" in service] == ["image"]
    for name in OURS.keys() - {"image"}:
        assert SERVICES[name]["pull_policy"] == "never", name
        assert "image" in _waits_for(name), name


def _waits_for(name):
    needed = SERVICES[name].get("depends_on", {})
    return set(needed).union(*(_waits_for(one) for one in needed))


def test_bitcoind_is_started_by_the_user_that_it_runs_as():
    for name in ("bitcoind", "bitcoind-live"):
        assert SERVICES[name]["entrypoint"] == ["bitcoind"], "the image's own entry point needs root"
        assert all(one.startswith("-") for one in SERVICES[name]["command"])


KEYS = {
    "wallet": {"prepare", "coins", "chain"},
    "desk": {"prepare", "coins", "control"},
    "nodes": {"prepare", "coins", "prices"},
    "seller": {"seller"}, "buyer": {"buyer"},
    "oracle-a": {"oracle-a"}, "oracle-b": {"oracle-b"}, "oracle-c": {"oracle-c"},
}  # fmt: skip


@pytest.mark.parametrize("volume", list(KEYS))
def test_a_volume_of_keys_is_mounted_by_those_that_use_them_and_only_those_that_make_them_may_write(volume):
    mounting = {n: v for n, s in SERVICES.items() for v in s.get("volumes", []) if v.split(":")[0] == volume}
    assert mounting.keys() == KEYS[volume]
    writing = {name for name, one in mounting.items() if not one.endswith(":ro")}
    assert writing == KEYS[volume] - {"chain", "prices", "control"}


def test_no_volume_of_all_data_is_left():
    assert "data" not in FILE["volumes"]
    mounted = {v.split(":")[1] for s in OURS.values() for v in s.get("volumes", [])} | {"/data/alive"}
    assert "/data" not in mounted
    assert all(f" {place}" in DOCKERFILE for place in mounted), "a new volume belongs to our user if the image has it"


def test_what_is_mounted_and_copied_exists():
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in FILE["volumes"]
    for names in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / name).exists() for name in names.split())


def test_the_image_runs_as_the_user_that_owns_its_volumes():
    assert "USER 10001:10001" in DOCKERFILE
    assert SERVICES["bitcoind"]["user"] == "10001:10001"
    assert DOCKERFILE.index("USER 10001") < DOCKERFILE.index("ENTRYPOINT")
    assert "root" not in re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)


def test_the_build_sees_only_what_the_image_needs():
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = {n for names in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE) for n in names.split()}
    assert "*" in lines
    assert let_in == copied


@pytest.mark.parametrize("party", ["seller", "buyer"])
def test_a_party_s_keys_are_in_a_volume_that_no_other_service_mounts_and_it_mounts_no_keys_of_others(party):
    mounted = {name: {one.partition(":")[0] for one in service.get("volumes", [])} for name, service in OURS.items()}
    assert [name for name, volumes in mounted.items() if party in volumes] == [party]
    assert mounted[party] == {party, f"{party}-mail", "chain"}  # not the oracles', not the service's, not the other's
    assert f"{party}-mail:/data/parties/{party}" in OURS["control"]["volumes"]
    directory = f"--dir=/data/parties/{party}/party"
    assert directory in OURS[party]["command"]
    assert f"{party}:{directory.partition('=')[2]}" in OURS[party]["volumes"]
    assert f" {directory.partition('=')[2]}" in DOCKERFILE, "a new volume belongs to our user only if the image has it"


@pytest.mark.parametrize("oracle", ["oracle-a", "oracle-b", "oracle-c"])
def test_an_oracle_s_key_is_in_a_volume_that_no_other_service_mounts_and_it_is_told_nothing_of_the_deployment(oracle):
    mounted = {name: {one.partition(":")[0] for one in service.get("volumes", [])} for name, service in OURS.items()}
    assert [name for name, volumes in mounted.items() if oracle in volumes] == [oracle]
    assert mounted[oracle] == {oracle, "network"}
    assert "network:/network:ro" in OURS[oracle]["volumes"]
    assert OURS[oracle]["environment"] == {}
    assert OURS[oracle]["secrets"] == []
    assert "--folder=/oracle/own" in OURS[oracle]["command"]
    assert " /oracle " in DOCKERFILE, "a new volume belongs to our user only if the image has it"
    port = next(one for one in OURS[oracle]["command"] if one.startswith("--port="))
    assert f"http://{oracle}:{port.partition('=')[2]}" in OURS["control"]["environment"]["BTCFI_ORACLES"]
    assert port in OURS[oracle]["healthcheck"]["test"]
