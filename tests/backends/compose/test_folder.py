"""The folder that `cachesim compose` writes, and the command."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cachesim import Settings
from cachesim.backends.compose.folder import read_folder, write_folder
from cachesim.cli.app import main
from cachesim.errors import CachesimError, SettingsError, StartError
from cachesim.servers.certificates import hosts_in
from cachesim.servers.credentials import acl_hash
from cachesim.topology import production
from tests.composed import public


def secrets(folder: Path) -> dict[str, bytes]:
    """The secrets, by path."""
    files = (path for path in (folder / "secrets").rglob("*") if path.is_file())
    return {path.relative_to(folder / "secrets").as_posix(): path.read_bytes() for path in files}


def test_returns_what_it_wrote(tmp_path: Path) -> None:
    """The files are returned, secrets included, and there are no others."""
    files = write_folder(tmp_path / "new" / "folder", Settings())
    assert set(files) == {p for p in (tmp_path / "new" / "folder").rglob("*") if p.is_file()}


def test_again_changes_nothing(folder: Path) -> None:
    """A second time writes the same, and keeps the secrets."""
    before = public(folder), secrets(folder)
    write_folder(folder, Settings())
    assert (public(folder), secrets(folder)) == before


def test_each_has_its_own_secrets(folder: Path, tmp_path: Path) -> None:
    """No two folders have the same secrets."""
    write_folder(tmp_path / "other", Settings())
    mine, other = secrets(folder), secrets(tmp_path / "other")
    assert mine.keys() == other.keys()
    assert {path for path in mine if mine[path] == other[path]} == {".gitignore"}


def test_secrets_are_secret(folder: Path) -> None:
    """Only this user may read them, git ignores them, and no other file has them."""
    assert folder.joinpath("secrets").stat().st_mode & 0o077 == 0
    assert all(p.stat().st_mode & 0o077 == 0 for p in folder.joinpath("secrets").rglob("*"))
    assert folder.joinpath("secrets/.gitignore").read_text() == "*\n"
    composed = read_folder(folder)
    for path, content in public(folder).items():
        text = content.decode()
        assert composed.credentials.token not in text, path
        assert composed.credentials.admin_password not in text, path
        assert acl_hash(composed.credentials.token) not in text, path
        assert "PRIVATE KEY" not in text, path


def test_a_token_of_ones_own(folder: Path) -> None:
    """A token that the user has written there is kept, and given to the servers."""
    mine = "of-my-own-0123456789"
    (folder / "secrets/token").write_text(f"{mine}\n")
    write_folder(folder, Settings())
    assert read_folder(folder).credentials.token == mine
    for name in ("redis-a", "redis-b", "redis-c"):
        conf = (folder / "secrets" / name / "auth.conf").read_text()
        assert acl_hash(mine) in conf


def test_loads_what_was_written(tmp_path: Path) -> None:
    """Reading a folder gives the settings, the plan, the CA and the passwords."""
    given: dict[str, object] = {"engine": "valkey", "memory_scale": 0.02}
    given |= {"node_timeout_seconds": 5.0, "advertise_host": "cache.example"}
    write_folder(tmp_path / "it", Settings.model_validate(given), 20000)
    composed = read_folder(tmp_path / "it")
    assert composed.settings == {**given, "name": "it"}
    assert composed.plan.topology == production(0.02)
    assert str(composed.plan.endpoint("redis-a")) == "127.0.0.1:20000"
    assert composed.ca == (tmp_path / "it/secrets/ca.pem").read_bytes()
    assert composed.credentials.token not in repr(composed)


@pytest.mark.parametrize(
    ("folder_name", "given", "name", "project"),
    [
        ("demo", None, "demo", "demo"),
        ("demo", "Demo.One", "Demo.One", "demo-one"),
        ("My Cache (2)", None, "my-cache-2", "my-cache-2"),
        (".hidden", None, "hidden", "hidden"),
        ("x" * 60, None, "x" * 40, "x" * 40),
        ("...a", None, "a", "a"),
        ("(!)", None, "compose", "compose"),
    ],
)
def test_names(
    tmp_path: Path, folder_name: str, given: str | None, name: str, project: str
) -> None:
    """A folder's name is the topology's as far as it can be, and that of compose's project."""
    folder = tmp_path / folder_name
    write_folder(folder, Settings(name=given))
    assert read_folder(folder).settings["name"] == Settings(name=name).name
    assert (folder / ".env").read_text() == f"COMPOSE_PROJECT_NAME=cachesim-{project}\n"


@pytest.mark.parametrize("base_port", [0, 1023, 65507, 70000])
def test_no_such_ports(tmp_path: Path, base_port: int) -> None:
    """A base port without room for all ports is refused, and nothing is written."""
    with pytest.raises(SettingsError, match=f"base_port = {base_port}.*1024 to 65506"):
        write_folder(tmp_path / "it", Settings(), base_port)
    assert not (tmp_path / "it").exists()


def test_ports_of_servers(tmp_path: Path) -> None:
    """So is one with which a link would have the port of a server in its pod."""
    with pytest.raises(SettingsError, match=r"^ports: 11212 \(redis-b\): the servers in contain"):
        write_folder(tmp_path / "it", Settings(), 11202)
    assert not (tmp_path / "it").exists()


def test_last_ports(tmp_path: Path) -> None:
    """The highest base port leaves just enough room."""
    write_folder(tmp_path / "it", Settings(), 65506)


def test_others_files_are_left_alone(tmp_path: Path) -> None:
    """A folder with files of others is refused and left as it was."""
    (tmp_path / "docker-compose.yml").write_text("services: {}")
    with pytest.raises(CachesimError, match=r"docker-compose\.yml.*empty or does not exist"):
        write_folder(tmp_path, Settings())
    assert [p.name for p in tmp_path.iterdir()] == ["docker-compose.yml"]


def test_no_folder(tmp_path: Path) -> None:
    """A path that is a file is refused."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CachesimError, match=r"file can't be written.*another folder"):
        write_folder(tmp_path / "file", Settings())


def test_certificates_for_another_host(folder: Path) -> None:
    """Certificates that don't fit the settings are refused; new ones fit."""
    settings = Settings.model_validate({"advertise_host": "cache.example"})
    with pytest.raises(CachesimError, match=r"not for cache\.example.*Remove .*secrets"):
        write_folder(folder, settings)
    (folder / "secrets").rename(folder.parent / "old")
    write_folder(folder, settings)
    assert "cache.example" in hosts_in((folder / "secrets/memcached-a/cert.pem").read_bytes())


DAMAGES = {
    "secrets/token": "token",
    "secrets/ca.pem": "ca.pem",
    "secrets/redis-b/key.pem": "key.pem",
    "secrets/memcached-c/cert.pem": "cert.pem",
}


@pytest.mark.parametrize(("path", "told"), DAMAGES.items())
def test_damaged_secrets(folder: Path, path: str, told: str) -> None:
    """Incomplete secrets are refused, with what to do."""
    (folder / path).unlink()
    with pytest.raises(CachesimError, match=f"{told}.*Remove .*secrets, run this again"):
        write_folder(folder, Settings())


def test_no_certificate(folder: Path) -> None:
    """A damaged certificate is refused, with what to do."""
    (folder / "secrets/redis-a/cert.pem").write_text("nothing")
    with pytest.raises(CachesimError, match=r"damaged.*Remove .*secrets, run this again"):
        write_folder(folder, Settings())


def no_folder(folder: Path) -> None:
    """Nothing at all."""
    folder.rename(folder.parent / "elsewhere")


def no_manifest(folder: Path) -> None:
    """A folder of something else."""
    (folder / "cachesim.json").unlink()


def half_a_manifest(folder: Path) -> None:
    """A manifest that was cut off."""
    (folder / "cachesim.json").write_text('{"base_port": 17000}')


def no_secrets(folder: Path) -> None:
    """A fresh clone."""
    (folder / "secrets").rename(folder.parent / "elsewhere")


@pytest.mark.parametrize("damage", [no_folder, no_manifest, half_a_manifest, no_secrets])
def test_not_loaded(folder: Path, damage: Callable[[Path], None]) -> None:
    """The error for a folder that can't be read says what to run."""
    damage(folder)
    with pytest.raises(StartError, match=r"`cachesim compose .*compose`, and bring it up"):
        read_folder(folder)


# --- the command ----------------------------------------------------------------------------


def compose(*arguments: str) -> Result:
    """Run `cachesim compose` in this process."""
    return CliRunner().invoke(main, ["compose", *arguments])


def test_command(alone: Path) -> None:
    """It writes the folder, and says what to do next."""
    result = compose("demo", "--engine", "valkey", "--base-port", "20000")
    assert result.exit_code == 0, result.stderr
    files = [path for path in (alone / "demo").rglob("*") if path.is_file()]
    assert result.stdout.splitlines() == [
        f"Wrote {len(files)} files to {alone}/demo. Bring the topology up and attach to it:",
        "",
        f"    docker compose -f {alone}/demo/docker-compose.yml up -d --wait",
        f"    cachesim attach {alone}/demo",
    ]
    composed = read_folder(alone / "demo")
    assert composed.settings["engine"] == "valkey"
    assert str(composed.plan.endpoint("redis-a")) == "127.0.0.1:20000"


def test_command_json(alone: Path) -> None:
    """With `--json` it prints the same as JSON, without secrets."""
    result = compose("demo", "--json")
    said = json.loads(result.stdout)
    assert said["folder"] == str(alone / "demo")
    assert {Path(file) for file in said["files"]} == {
        path for path in (alone / "demo").rglob("*") if path.is_file()
    }
    assert [command.split()[0] for command in said["next"]] == ["docker", "cachesim"]
    assert read_folder(alone / "demo").credentials.token not in result.output


def test_command_keeps_what_is_not_given(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on a clone, it writes the same folder; only what is given is changed."""
    options = ["--name", "mine", "--engine", "valkey", "--advertise-host", "cache.example"]
    compose("demo", *options, "--base-port", "20000")
    folder = alone / "demo"
    before = public(folder)
    shutil.rmtree(folder / "secrets")
    assert compose("demo").exit_code == 0
    assert public(folder) == before
    monkeypatch.setenv("CACHESIM_NODE_TIMEOUT_SECONDS", "3")
    compose("demo", "--engine", "redis", "--base-port", "21000")
    composed = read_folder(folder)
    assert composed.settings == {
        "name": "mine",
        "engine": "redis",
        "memory_scale": 0.01,
        "node_timeout_seconds": 3.0,
        "advertise_host": "cache.example",
    }
    assert str(composed.plan.endpoint("redis-a")) == "127.0.0.1:21000"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["others"], "others has files that are not from `cachesim compose`: mine.txt. Choose"),
        (["new", "--base-port", "80"], "base_port = 80: .*choose one from 1024 to 65506"),
        (["new", "--name", "a b"], r"name = 'a b' \(argument\): should be at most 40 letters"),
    ],
)
def test_command_mistakes(alone: Path, arguments: list[str], told: str) -> None:
    """The error for a mistake says what to do, and nothing is written."""
    (alone / "others").mkdir()
    (alone / "others/mine.txt").write_text("mine")
    result = compose(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(f"^Error: .*{told}", result.stderr)
    assert [path.name for path in alone.rglob("*")] == ["others", "mine.txt"]
