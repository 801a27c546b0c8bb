"""Runtime environments are what a release pins, or an error that says what they are instead."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import airflow_provider_mlpipex
from airflow_provider_mlpipex.domain.errors import RuntimeMismatch
from airflow_provider_mlpipex.domain.release.release import RuntimeEnvironment
from airflow_provider_mlpipex.serving.model_server import interpreter
from airflow_provider_mlpipex.serving.plane import runtimes
from airflow_provider_mlpipex.serving.plane.runtimes import RuntimeCache, lock_digest, provider_digest, read_lock


def write_lock(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return write_lock(tmp_path / "runtime.lock", "tiny-wheel==1.2.3\n")


@pytest.fixture
def cache(tmp_path: Path) -> RuntimeCache:
    return RuntimeCache(tmp_path / "runtimes")


@pytest.fixture
def no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that holds ``tiny-wheel 1.2.3``: all that can be installed."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    dist = "tiny_wheel-1.2.3.dist-info"
    with zipfile.ZipFile(folder / "tiny_wheel-1.2.3-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_wheel.py", "ANSWER = 42\n")
        wheel.writestr(f"{dist}/METADATA", "Metadata-Version: 2.1\nName: tiny-wheel\nVersion: 1.2.3\n")
        wheel.writestr(
            f"{dist}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{dist}/RECORD", f"tiny_wheel.py,,\n{dist}/METADATA,,\n{dist}/WHEEL,,\n{dist}/RECORD,,\n")
    for tool in ("UV", "PIP"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(folder))
    return folder


def locked(lock: Path, *, digest: str | None = None) -> RuntimeEnvironment:
    return RuntimeEnvironment(version="2.0.0", kind="lock", digest=digest or lock_digest(lock), lock_uri=str(lock))


# The lock file.


def test_comments_order_and_spelling_make_no_other_environment(tmp_path: Path) -> None:
    one = write_lock(tmp_path / "one", "Scikit_Learn==1.7.0\nnumpy==2.1.0\n")
    other = write_lock(tmp_path / "other", "# by hand\nnumpy==2.1.0  # via scikit-learn\n\nscikit-learn==1.7.0\n")
    assert read_lock(one).lines == read_lock(other).lines == ["numpy==2.1.0", "scikit-learn==1.7.0"]
    assert lock_digest(one) == lock_digest(other)


def test_another_version_is_another_environment(tmp_path: Path) -> None:
    one, other = (write_lock(tmp_path / version, f"numpy=={version}\n") for version in ("2.1.0", "2.1.1"))
    assert lock_digest(one) != lock_digest(other)


@pytest.mark.parametrize(
    "line",
    [
        "numpy",
        "numpy>=2",
        "numpy~=2.1",
        "numpy==2.*",
        "numpy==2.1.0,<3",
        "-e .",
        "-r other.txt",
        "--index-url https://ann:hush@127.0.0.1/simple",
        "numpy @ file:///tmp/numpy.whl",
        "git+ssh://127.0.0.1/numpy.git",
        "../numpy",
        "numpy==2.1.0 --hash=sha256:abc",
    ],
)
def test_a_line_that_pins_nothing_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(RuntimeMismatch) as refused:
        lock_digest(write_lock(tmp_path / "runtime.lock", f"pandas==2.2.0\n{line}\n"))
    assert refused.value.value == line or "hush" in line
    assert "hush" not in str(refused.value)
    assert "runtime.lock" in str(refused.value)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n"])
def test_an_empty_lock_pins_nothing(tmp_path: Path, text: str) -> None:
    with pytest.raises(RuntimeMismatch, match="no lines"):
        lock_digest(write_lock(tmp_path / "runtime.lock", text))


def test_a_lock_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeMismatch, match=r"gone\.lock.*No such file"):
        lock_digest(tmp_path / "gone.lock")


# The provider's own environment.


def test_the_providers_environment_is_served_if_it_is_the_pinned_one(cache: RuntimeCache) -> None:
    pinned = RuntimeEnvironment(version="1.0.0", kind="provider", digest=provider_digest())
    assert cache.python_for(pinned) == Path(sys.executable)


def test_an_upgraded_provider_environment_is_refused(cache: RuntimeCache, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = RuntimeEnvironment(version="1.0.0", kind="provider", digest=provider_digest())
    installed = list(runtimes.distributions())
    monkeypatch.setattr(runtimes, "distributions", lambda: installed[1:])
    with pytest.raises(RuntimeMismatch, match=f"pinned digest {pinned.digest}"):
        cache.python_for(pinned)


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "requirements.txt").write_text("# of MLflow\nscikit-learn==1.0 # pinned\ncloudpickle\n")
    return folder


def with_packages(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Of the packages that are installed, these have another version; ``None``: they are gone."""
    named = {name.replace("_", "-"): version for name, version in versions.items()}
    real = [d for d in runtimes.distributions() if d.metadata["Name"].lower() not in named]

    class Fake:
        requires: list[str] | None = None

        def __init__(self, name: str, version: str) -> None:
            self.metadata, self.version = {"Name": name}, version

    fake = [Fake(name, version) for name, version in named.items() if version is not None]
    monkeypatch.setattr(runtimes, "distributions", lambda: [*real, *fake])


@pytest.mark.parametrize("change", [{"one_package_more": "1.0"}, {"pytest": "0.0.1"}, {"pytest": None}])
def test_a_release_starts_again_where_nothing_that_serves_has_changed(
    cache: RuntimeCache, model_dir: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str | None]
) -> None:
    pinned = RuntimeEnvironment(version="1.0.0", kind="provider", digest=provider_digest())
    cache.python_for(pinned, model_dir=model_dir)
    with_packages(monkeypatch, **change)
    assert provider_digest() != pinned.digest, "a review is opened all the same"
    assert cache.python_for(pinned, model_dir=model_dir) == Path(sys.executable)


@pytest.mark.parametrize("package", ["scikit_learn", "numpy", "uvicorn"])
@pytest.mark.parametrize("version", ["0.0.1", None])
def test_what_serves_and_has_changed_is_built_as_it_was_or_named(
    cache: RuntimeCache, model_dir: Path, monkeypatch: pytest.MonkeyPatch, package: str, version: str | None
) -> None:
    pinned = RuntimeEnvironment(version="1.0.0", kind="provider", digest=provider_digest())
    cache.python_for(pinned, model_dir=model_dir)
    if package == "numpy":
        # Not named by the model, but needed by what it names.
        assert "numpy" not in (model_dir / "requirements.txt").read_text()
    with_packages(monkeypatch, **{package: version})
    asked: list[list[str]] = []

    def no_index(home: Path, lock: Path) -> None:
        asked.append(lock.read_text().splitlines())
        raise runtimes._mismatch("lock", value="no such index", limit="")

    monkeypatch.setattr(runtimes, "_build", no_index)
    with pytest.raises(RuntimeMismatch, match=f"{package.replace('_', '-')} .* -> {version or 'gone'}.*no such index"):
        cache.python_for(pinned, model_dir=model_dir)
    (pins,) = asked
    assert any(pin.startswith(f"{package.replace('_', '-')}==") for pin in pins)
    assert not any(pin.startswith(("pytest==", "apache-airflow==")) for pin in pins), "no more than what serves"


def test_a_model_that_does_not_say_what_it_needs_needs_everything(
    cache: RuntimeCache, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model_dir / "requirements.txt").write_text("-r elsewhere.txt\n")
    pinned = RuntimeEnvironment(version="1.0.0", kind="provider", digest=provider_digest())
    cache.python_for(pinned, model_dir=model_dir)
    with_packages(monkeypatch, pytest="0.0.1")
    monkeypatch.setattr(
        runtimes, "_build", lambda home, lock: (_ for _ in ()).throw(runtimes._mismatch("x", value="", limit=""))
    )
    with pytest.raises(RuntimeMismatch, match="pytest"):
        cache.python_for(pinned, model_dir=model_dir)


def test_a_release_that_never_ran_here_needs_its_very_digest(
    cache: RuntimeCache, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = RuntimeEnvironment(version="1.0.0", kind="provider", digest=provider_digest())
    with_packages(monkeypatch, one_package_more="1.0")
    with pytest.raises(RuntimeMismatch, match=f"pinned digest {pinned.digest}"):
        cache.python_for(pinned, model_dir=model_dir)


def test_our_own_version_is_not_part_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = provider_digest()
    others = [d for d in runtimes.distributions() if d.metadata["Name"] != "airflow-provider-mlpipex"]
    monkeypatch.setattr(runtimes, "distributions", lambda: others)
    assert provider_digest() == before


def test_an_image_cannot_run_here(cache: RuntimeCache) -> None:
    image = RuntimeEnvironment(version="1.0.0", kind="image", digest="a" * 64, image=f"models/fraud@sha256:{'a' * 64}")
    with pytest.raises(RuntimeMismatch, match="provider or lock"):
        cache.python_for(image)


# Environments built from locks.


def test_markers_hashes_and_indexes_are_built_as_the_installer_reads_them(
    cache: RuntimeCache, tmp_path: Path, no_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``uv pip compile --generate-hashes --emit-index-url`` writes them; the hash is the wheel's own."""
    (wheel,) = no_index.iterdir()
    own = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for tool in ("UV", "PIP"):
        monkeypatch.delenv(f"{tool}_FIND_LINKS")
    text = (
        f"--find-links {no_index}\n"
        f"tiny-wheel==1.2.3 \\\n    --hash=sha256:{own}\n"
        f"never-there==9.9.9 ; sys_platform == 'win32' \\\n    --hash=sha256:{'0' * 64}\n"
    )
    python = cache.python_for(locked(write_lock(tmp_path / "runtime.lock", text)))
    assert subprocess.check_output([python, "-c", "import tiny_wheel; print(tiny_wheel.ANSWER)"]).strip() == b"42"
    forged = write_lock(tmp_path / "forged.lock", text.replace(own, "1" * 64))
    assert lock_digest(forged) != lock_digest(tmp_path / "runtime.lock")
    with pytest.raises(RuntimeMismatch):
        cache.python_for(locked(forged))


def test_an_environment_is_built_anew_after_its_file_has_changed(
    cache: RuntimeCache, lock: Path, tmp_path: Path, no_index: Path
) -> None:
    pinned = locked(lock)
    python = cache.python_for(pinned)
    lock.write_text("tiny-wheel==9.9.9\n", encoding="utf-8")
    shutil.rmtree(python.parents[1])
    assert cache.python_for(pinned) == python
    assert subprocess.check_output([python, "-c", "import tiny_wheel; print(tiny_wheel.ANSWER)"]).strip() == b"42"


def test_a_lock_is_built_once_and_then_found(
    cache: RuntimeCache, lock: Path, no_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = locked(lock)
    python = cache.python_for(runtime)
    said = subprocess.run(
        [str(python), "-c", "import tiny_wheel; print(tiny_wheel.ANSWER)"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "42\n"

    def never(*command: str) -> None:
        pytest.fail(f"built again: {command}")

    monkeypatch.setattr(runtimes, "_run", never)
    # A rollback builds nothing and needs no lock file: the folder that it came from may be gone.
    lock.unlink()
    assert cache.python_for(runtime) == python


def test_a_lock_that_changed_is_not_built(cache: RuntimeCache, lock: Path, no_index: Path, tmp_path: Path) -> None:
    runtime = locked(lock)
    write_lock(lock, "tiny-wheel==1.2.4\n")
    with pytest.raises(RuntimeMismatch, match=f"pinned digest {runtime.digest}"):
        cache.python_for(runtime)
    assert not (tmp_path / "runtimes" / runtime.digest).exists()


def test_a_package_that_cannot_be_had_is_named(cache: RuntimeCache, no_index: Path, tmp_path: Path) -> None:
    lock = write_lock(tmp_path / "runtime.lock", "no-such-wheel==1.0.0\n")
    with pytest.raises(RuntimeMismatch, match="can be built from its lock"):
        cache.python_for(locked(lock))


def test_a_build_that_was_killed_is_begun_again(
    cache: RuntimeCache, lock: Path, no_index: Path, tmp_path: Path
) -> None:
    half = tmp_path / "runtimes" / locked(lock).digest
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").write_text("half a file")
    python = cache.python_for(locked(lock))
    assert subprocess.run([str(python), "-c", "import tiny_wheel"], check=False).returncode == 0


def test_a_package_that_was_removed_from_a_built_environment_is_missed(
    cache: RuntimeCache, lock: Path, no_index: Path, tmp_path: Path
) -> None:
    cache.python_for(locked(lock))
    marker = tmp_path / "runtimes" / locked(lock).digest / "complete.json"
    marker.write_text(json.dumps([*json.loads(marker.read_text()), "other-wheel==3.0.0"]))
    with pytest.raises(RuntimeMismatch, match=r"missing other-wheel==3\.0\.0"):
        cache.python_for(locked(lock))


def test_an_interpreter_that_is_gone_is_an_error_of_ours(
    cache: RuntimeCache, lock: Path, no_index: Path, tmp_path: Path
) -> None:
    python = cache.python_for(locked(lock))
    python.unlink()
    with pytest.raises(RuntimeMismatch, match="an interpreter that starts"):
        cache.python_for(locked(lock))


def test_a_build_that_never_ends_is_given_up(cache: RuntimeCache, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(runtimes.cancelling, "run", hangs)
    with pytest.raises(RuntimeMismatch, match="still building"):
        cache.python_for(locked(lock))


def test_a_server_in_a_locked_environment_sees_this_package_and_no_secret(
    cache: RuntimeCache, lock: Path, no_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    python = cache.python_for(locked(lock))
    environment = interpreter.server_environment(python)
    assert "secret" not in environment.values()
    finds = (
        "import importlib.util as u; print(u.find_spec('airflow_provider_mlpipex') is not None, u.find_spec('airflow'))"
    )
    said = subprocess.run([str(python), "-c", finds], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == "True None\n"
    assert interpreter.server_environment(python) == environment


def test_a_model_server_finds_this_package_and_no_other(tmp_path: Path) -> None:
    # In an environment of its own it has nothing of the provider but a link to it.
    python = tmp_path / "home" / "bin" / "python"
    python.parent.mkdir(parents=True)
    for _ in range(2):
        (path,) = interpreter.server_environment(python)["PYTHONPATH"].split(os.pathsep)
        assert (Path(path) / "airflow_provider_mlpipex" / "serving" / "model_server" / "__main__.py").is_file()
    # In the plane's own it finds the code that the plane runs, installed or not.
    done = subprocess.run(
        [sys.executable, "-c", "import airflow_provider_mlpipex as package; print(package.__file__)"],
        env=interpreter.server_environment(Path(sys.executable)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).resolve() == Path(airflow_provider_mlpipex.__file__).resolve()
