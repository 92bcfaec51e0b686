"""Settings: precedence, sources and errors that say what to correct, and where."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from cachesim.errors import SettingsError
from cachesim.settings import _PATHS, LoadedSettings, Settings, load_settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the settings show it; the empty file above it ends every search."""
    (tmp_path / "cachesim.toml").touch()
    folder = tmp_path.resolve() / "project"
    folder.mkdir()
    return folder


def load(
    folder: Path, environ: Mapping[str, str] | None = None, **arguments: object
) -> LoadedSettings:
    """Load from `folder`, with nothing of the environment the tests run in."""
    return load_settings(arguments, environ=environ or {}, directory=folder)


def mistakes(folder: Path, environ: Mapping[str, str] | None = None, **arguments: object) -> str:
    """Load from `folder` what cannot be loaded, and return the message."""
    with pytest.raises(SettingsError) as caught:
        load(folder, environ, **arguments)
    return str(caught.value)


def write(path: Path, text: str) -> Path:
    """Write a file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults(folder: Path) -> None:
    """With nothing given every setting has its default, and says so."""
    loaded = load(folder)
    assert loaded.settings.model_dump() == {
        "backend": "auto",
        "engine": "redis",
        "redis_version": "7.0",
        "name": None,
        "speed": 1.0,
        "seed": None,
        "memory_scale": 0.01,
        "detection_seconds": (10.0, 20.0),
        "promotion_seconds": (5.0, 10.0),
        "dns_ttl_seconds": (5.0, 60.0),
        "replacement_seconds": (30.0, 60.0),
        "node_timeout_seconds": 15.0,
        "advertise_host": None,
        "discovery": "endpoint",
        "ports": None,
        "metrics": "asked",
        "alarms": None,
        "events_to": None,
        "webhook_file": None,
        "start_timeout_seconds": 60.0,
        "pull_images": "missing",
        "redis_image": "redis:7.2",
        "valkey_image": "valkey/valkey:8.1",
        "memcached_image": "memcached:1.6",
        "toxiproxy_image": "ghcr.io/shopify/toxiproxy:2.12.0",
    }
    assert loaded.sources == dict.fromkeys(Settings.model_fields, "default")


def test_defaults_keep_their_own_rules() -> None:
    """Defaults, which are not checked when they are used, keep the rules of their settings."""
    assert Settings.model_validate(Settings().model_dump()) == Settings()


@pytest.mark.parametrize("key", Settings.model_fields)
def test_described_in_one_line(key: str) -> None:
    """Every setting has the line that help and docs show."""
    description = Settings.model_fields[key].description
    assert re.fullmatch(r"[^\n]+\.", description or "")


def test_settings_are_frozen() -> None:
    """Settings do not change once they are made."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().speed = 2.0  # type: ignore[misc]


def test_settings_have_no_other_keys() -> None:
    """An unknown key is refused when the settings are made by hand, too."""
    with pytest.raises(ValidationError, match="sped"):
        Settings.model_validate({"sped": 2})


@pytest.mark.parametrize(
    ("engine", "image"), [("redis", "redis:7.2"), ("valkey", "valkey/valkey:8.1")]
)
def test_server_image_follows_the_engine(folder: Path, engine: str, image: str) -> None:
    """The image of the Redis nodes is the chosen engine's."""
    assert load(folder, engine=engine).settings.server_image == image


def test_precedence_and_sources(folder: Path) -> None:
    """Argument beats environment beats file beats default, each key by itself."""
    file = write(folder / "cachesim.toml", "speed = 2\nseed = 2\nengine = 'valkey'")
    environ = {"CACHESIM_SPEED": "3", "CACHESIM_SEED": "3"}
    loaded = load(folder, environ, speed=4)
    assert loaded.settings == Settings(speed=4, seed=3, engine="valkey")
    assert {key: loaded.sources[key] for key in ("speed", "seed", "engine", "name")} == {
        "speed": "argument",
        "seed": "environment CACHESIM_SEED",
        "engine": str(file),
        "name": "default",
    }


def test_argument_none_is_not_given(folder: Path) -> None:
    """An option that its user left out leaves the environment's value."""
    assert load(folder, {"CACHESIM_SEED": "7"}, seed=None).settings.seed == 7


def test_argument_zero_is_given(folder: Path) -> None:
    """An explicit 0 beats the environment."""
    loaded = load(folder, {"CACHESIM_SEED": "7"}, seed=0)
    assert (loaded.settings.seed, loaded.sources["seed"]) == (0, "argument")


def test_empty_argument_is_given(folder: Path) -> None:
    """An explicit empty text is a wrong name, and does not fall back to another."""
    assert mistakes(folder, {"CACHESIM_NAME": "other"}, name="").startswith("name = '' (argument):")


def test_blank_variable_is_not_given(folder: Path) -> None:
    """A blank variable is like one that is not set."""
    assert load(folder, {"CACHESIM_SEED": "  "}).sources["seed"] == "default"


def test_environ_is_read_at_call_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `environ`, os.environ as it is now, not as it was at import or the last time."""
    monkeypatch.setenv("CACHESIM_NAME", "first")
    assert load_settings(directory=folder).settings.name == "first"
    monkeypatch.setenv("CACHESIM_NAME", "second")
    assert load_settings(directory=folder).settings.name == "second"


def test_directory_is_the_current_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `directory`, the search begins in the current folder."""
    write(folder / "cachesim.toml", "seed = 5")
    monkeypatch.chdir(folder)
    assert load_settings(environ={}).settings.seed == 5


def test_paths_in_a_file(folder: Path) -> None:
    """They are relative to the file's folder, from wherever it is found; others stay."""
    write(folder / "cachesim.toml", 'alarms = "alarms.yaml"\nwebhook_file = "/url"')
    (folder / "deeper").mkdir()
    settings = load(folder / "deeper").settings
    assert settings.alarms == folder / "alarms.yaml"
    assert settings.webhook_file == Path("/url")
    assert load(folder, {"CACHESIM_ALARMS": "mine.yaml"}).settings.alarms == Path("mine.yaml")
    paths = {key for key, it in Settings.model_fields.items() if "Path" in str(it.annotation)}
    assert paths == _PATHS


def test_relative_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search from a relative directory goes up past the current folder."""
    write(folder / "cachesim.toml", "seed = 5")
    (folder / "service" / "tests").mkdir(parents=True)
    monkeypatch.chdir(folder / "service")
    assert load(Path("tests")).settings.seed == 5


def test_pyproject_table(folder: Path) -> None:
    """A pyproject.toml with [tool.cachesim] is a settings file."""
    file = write(folder / "pyproject.toml", "[project]\nname = 'app'\n[tool.cachesim]\nseed = 5")
    loaded = load(folder)
    assert (loaded.settings.seed, loaded.settings.name) == (5, None)
    assert loaded.sources["seed"] == str(file)


def test_search_goes_upwards(folder: Path) -> None:
    """The nearest folder with settings counts; a pyproject.toml without our table is passed by."""
    write(folder / "cachesim.toml", "seed = 1")
    write(folder / "near" / "cachesim.toml", "speed = 2")
    write(folder / "near" / "service" / "pyproject.toml", "[tool.other]\nseed = 3")
    (folder / "near" / "service" / "tests").mkdir()
    assert load(folder / "near" / "service" / "tests").settings == Settings(speed=2)


def test_two_files_in_one_folder(folder: Path) -> None:
    """Which of two files counts is not guessed: both are named."""
    own = write(folder / "cachesim.toml", "")
    shared = write(folder / "pyproject.toml", "[tool.cachesim]")
    message = mistakes(folder)
    assert str(own) in message
    assert str(shared) in message


def test_cachesim_toml_beside_another_pyproject(folder: Path) -> None:
    """A pyproject.toml without our table does not collide."""
    write(folder / "cachesim.toml", "seed = 5")
    write(folder / "pyproject.toml", "[tool.other]")
    assert load(folder).settings.seed == 5


def test_byte_order_mark(folder: Path) -> None:
    """A file that a Windows editor began with a byte order mark is read."""
    write(folder / "cachesim.toml", "\ufeffseed = 5")
    assert load(folder).settings.seed == 5


@pytest.mark.parametrize(
    "given", ["1.5-20", "1.5,20", " 1.5 - 20 ", (1.5, 20), [1.5, 20]], ids=repr
)
def test_span(folder: Path, given: object) -> None:
    """A range is text or two numbers."""
    assert load(folder, detection_seconds=given).settings.detection_seconds == (1.5, 20.0)


@pytest.mark.parametrize("given", ["10", 10, 10.0, [10]], ids=repr)
def test_span_of_one_number(folder: Path, given: object) -> None:
    """One number is both ends."""
    assert load(folder, promotion_seconds=given).settings.promotion_seconds == (10.0, 10.0)


def test_span_from_toml_and_environment(folder: Path) -> None:
    """A TOML list and an environment text give the same pair."""
    write(folder / "cachesim.toml", "detection_seconds = [1, 2]")
    settings = load(folder, {"CACHESIM_PROMOTION_SECONDS": "1-2"}).settings
    assert settings.detection_seconds == settings.promotion_seconds == (1.0, 2.0)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("20-10", "low end first"),
        ([-1, 5], "greater than or equal to 0"),
        ("1-2-3", '"10-20"'),
        ([], '"10-20"'),
        ({"low": 1}, '"10-20"'),
        ("soon", "valid number"),
        ([True, 2], "true or false"),
        ((True, 2), "true or false"),
    ],
)
def test_wrong_span(folder: Path, given: object, rule: str) -> None:
    """A wrong range is one mistake that shows the value and the rule."""
    message = mistakes(folder, detection_seconds=given)
    assert message.startswith(f"detection_seconds = {given!r} (argument): should ")
    assert rule in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backend", "podman"),
        ("engine", "memcached"),
        ("speed", 0),
        ("speed", "inf"),
        ("speed", "nan"),
        ("speed", True),
        ("seed", -1),
        ("seed", 1.5),
        ("seed", True),
        ("memory_scale", 0),
        ("speed", 1001),
        ("memory_scale", 1e-12),
        ("memory_scale", "nan"),
        ("memory_scale", 1.1),
        ("detection_seconds", "nan"),
        ("detection_seconds", [1, 1e6]),
        ("node_timeout_seconds", 0.9),
        ("node_timeout_seconds", 1e18),
        ("start_timeout_seconds", 0),
        ("start_timeout_seconds", "inf"),
        ("start_timeout_seconds", 1e300),
        ("name", "x" * 41),
        ("name", "a b"),
        ("name", "a/b"),
        ("name", "a\n"),
        ("name", ".."),
        ("name", "-x"),
        ("name", "x."),
        ("advertise_host", ""),
        ("advertise_host", "host:6379"),
        ("advertise_host", "https://host"),
        ("redis_image", ""),
        ("valkey_image", "a b"),
        ("memcached_image", ""),
        ("toxiproxy_image", ""),
        ("ports", 80),
        ("ports", 65507),
        ("ports", ""),
        ("ports", "redis-a"),
        ("ports", "redis-a=0"),
        ("ports", {"redis-d": 7000}),
        ("ports", {"redis-a": 7000, "redis-b": 7000}),
        ("ports", [17000]),
    ],
)
def test_wrong_value(folder: Path, key: str, value: object) -> None:
    """A value out of its bounds names the key, the value and the source."""
    assert mistakes(folder, {}, **{key: value}).startswith(f"{key} = {value!r} (argument): should ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 0),
        ("speed", 1000),
        ("speed", 0.01),
        ("memory_scale", 1),
        ("memory_scale", 0.001),
        ("node_timeout_seconds", 1),
        ("name", "x" * 40),
        ("name", "7"),
        ("name", "team_a.Shard-1"),
        ("advertise_host", "host.docker.internal"),
        ("advertise_host", "172.17.0.1"),
        ("advertise_host", "fd00::1"),
    ],
)
def test_value_at_its_bounds(folder: Path, key: str, value: object) -> None:
    """The last value within the bounds is taken."""
    assert getattr(load(folder, {}, **{key: value}).settings, key) == value


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (17000, "17000"),
        ("65506", "65506"),
        ({"redis-b": 7001, "redis-a": 7000}, "redis-a=7000,redis-b=7001"),
        ("toxiproxy-a=8474, memcached-a=80", "memcached-a=80,toxiproxy-a=8474"),
    ],
)
def test_ports(folder: Path, given: object, kept: str) -> None:
    """A first port or ports by name, as a number, a table or text, are kept as text."""
    settings = load(folder, {}, ports=given).settings
    assert settings.ports == kept
    assert load(folder, {}, **settings.model_dump(mode="json")).settings == settings


def test_wrong_value_in_the_environment(folder: Path) -> None:
    """The message names the variable."""
    message = mistakes(folder, {"CACHESIM_SPEED": "fast"})
    assert message.startswith("speed = 'fast' (environment CACHESIM_SPEED): should be a ")


def test_wrong_value_in_a_file(folder: Path) -> None:
    """The message names the file and the line."""
    file = write(folder / "cachesim.toml", "# ours\nseed = 1\n\nspeed = 0\n")
    assert mistakes(folder).startswith(
        f"speed = 0 ({file}:4): should be greater than or equal to 0.01"
    )


def test_line_in_pyproject(folder: Path) -> None:
    """The line is the one below our header, not that of a namesake in another table."""
    text = "[tool.a]\nspeed = 1\n[ tool . cachesim ] # ours\n'speed' = 0\n[b]\nspeed = 2"
    file = write(folder / "pyproject.toml", text)
    assert f"({file}:4)" in mistakes(folder)


def test_key_without_a_line_of_its_own(folder: Path) -> None:
    """In an inline table the file alone is named, and no other key's line."""
    file = write(folder / "pyproject.toml", "speed = 1\ntool.cachesim = {speed = 0}")
    assert f"({file})" in mistakes(folder)


def test_table_that_is_none(folder: Path) -> None:
    """A value in the place of [tool.cachesim] is a mistake, not an empty table."""
    file = write(folder / "pyproject.toml", "[tool]\ncachesim = 3")
    assert mistakes(folder).startswith(f"{file}: should be a table, [tool.cachesim]")


def test_unknown_key_near_another(folder: Path) -> None:
    """A misspelt key is answered with the right one, and its line."""
    file = write(folder / "cachesim.toml", "seed = 1\nsped = 2")
    assert mistakes(folder) == f"sped ({file}:2): unknown key; did you mean speed?"


def test_unknown_key_near_none(folder: Path) -> None:
    """If no key is near, all are listed."""
    expected = f"zzz (argument): unknown key; the keys are {', '.join(Settings.model_fields)}"
    assert mistakes(folder, zzz=1) == expected


def test_malformed_toml(folder: Path) -> None:
    """The message has the path, the line and what to do."""
    file = write(folder / "cachesim.toml", "seed = 1\nengine = valkey")
    message = mistakes(folder)
    assert message.startswith(f"{file}: ")
    assert "line 2" in message
    assert message.endswith('engine = "valkey"')


def test_file_in_another_encoding(folder: Path) -> None:
    """A file that is not UTF-8 is named."""
    file = folder / "cachesim.toml"
    file.write_bytes("seed = 1".encode("utf-16"))
    message = mistakes(folder)
    assert message.startswith(f"{file}: ")
    assert message.endswith(". Make it readable UTF-8 text.")


def test_mistakes_come_together(folder: Path) -> None:
    """All mistakes are told at once, one a line."""
    write(folder / "cachesim.toml", "sped = 2\nspeed = 0")
    lines = mistakes(folder, {"CACHESIM_ENGINE": "x", "CACHESIM_SEDE": "1"}, seed=-1).splitlines()
    starts = ["sped (", "environment CACHESIM_SEDE", "engine = 'x'", "speed = 0", "seed = -1"]
    assert len(lines) == len(starts)
    assert all(any(line.startswith(start) for line in lines) for start in starts)


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("CACHESIM_SEDE", "CACHESIM_SEED"),
        ("CACHESIM_SPED", "CACHESIM_SPEED"),
        ("CACHESIM_BACKENDS", "CACHESIM_BACKEND"),
        ("CACHESIM_NODE_TIMEOUT", "CACHESIM_NODE_TIMEOUT_SECONDS"),
    ],
)
def test_misspelt_variable(folder: Path, variable: str, near: str) -> None:
    """A variable that is nearly a setting's is a mistake, not silently left out."""
    expected = f"environment {variable}: unknown; did you mean {near}?"
    assert mistakes(folder, {variable: "1"}) == expected


def test_output_of_env_is_no_mistake(folder: Path) -> None:
    """What `cachesim env` printed may be in the environment of the next call."""
    names = """
        CACHESIM_REDIS_HOST CACHESIM_REDIS_PORT CACHESIM_REDIS_NODES CACHESIM_REDIS_USERNAME
        CACHESIM_REDIS_PASSWORD CACHESIM_REDIS_PASSWORD_FILE CACHESIM_REDIS_URL CACHESIM_REDIS_TLS
        CACHESIM_MEMCACHED_NODES CACHESIM_MEMCACHED_TLS CACHESIM_CA_FILE
        CACHESIM_TOXIPROXY_A CACHESIM_TOXIPROXY_B CACHESIM_TOXIPROXY_C
    """
    environ = dict.fromkeys(names.split(), "1")
    environ |= {"CACHESIM_NAME": "n", "CACHESIM_BACKEND": "docker", "CACHESIM_ENGINE": "valkey"}
    settings = load(folder, environ).settings
    assert settings == Settings(name="n", backend="docker", engine="valkey")
    environ["CACHESIM_BACKEND"] = "compose"  # that can't be chosen
    assert load(folder, environ).settings == Settings(name="n", engine="valkey")


@pytest.mark.parametrize(
    "variable",
    [
        "CACHESIM_KEEP",
        "CACHESIM_ATTACH",
        "CACHESIM_REQUIRE_DOCKER",
        "CACHESIM_REQUIRE_CLIENTS",
        "CACHESIM_REQUIRE_SERVERS",
        "CACHESIM_CI_SPEED",
        "CACHESIM_CI_NAME",
        "CACHESIM_HOME",
        "CACHESIM_SERVICE_HOST",
        "SPEEED",
    ],
)
def test_other_variable_is_no_mistake(folder: Path, variable: str) -> None:
    """Variables that others own, or that are near to no setting's, are left alone."""
    assert load(folder, {variable: "1"}).settings == Settings()
