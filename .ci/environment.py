"""Make `.venv`: a thin environment of this checkout over a shared one with the dependencies.

The dependencies (torch and friends, about 6 GB) are installed once per machine, under the cache
directory and a hash of setup.cfg and the Python version; `.venv` sees them through a .pth file
and adds this checkout's `hvp`, so many checkouts share one installation without sharing code.
Standard library only.
"""

import configparser
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("dashboards", "slurm", "sweeps", "dev")


def requirements() -> list[str]:
    """The dependencies in setup.cfg, those of `EXTRAS` included, and the build backend."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = [config["options"]["install_requires"]]
    lists += [config["options.extras_require"][extra] for extra in EXTRAS]
    return ["setuptools>=70", *(line for text in lists for line in text.split("\n") if line)]


def site_packages(environment: Path) -> Path:
    """Where an environment made by this interpreter keeps its packages."""
    variables = {"base": str(environment), "platbase": str(environment)}
    return Path(sysconfig.get_path("purelib", scheme="venv", vars=variables))


def shared_environment() -> Path:
    """The environment with the dependencies; built when this machine has none yet."""
    wanted = (ROOT / "setup.cfg").read_bytes() + sys.version.encode()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hvp"
    environment = cache / f"env-{hashlib.sha256(wanted).hexdigest()[:12]}"
    complete = environment / "complete"
    cache.mkdir(parents=True, exist_ok=True)
    with environment.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once: the second waits, then finds it
        if complete.exists():
            return environment
        print(f"installing the dependencies into {environment} (once; minutes)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        pip = [environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", *requirements()], check=True)
        complete.touch()  # a build that was killed leaves none and is started anew
    return environment


def main() -> None:
    """Build the shared environment if needed, then the checkout's layer over it."""
    shared = shared_environment()
    layer = ROOT / ".venv"
    if layer.is_symlink():
        layer.unlink()
    elif layer.exists():
        shutil.rmtree(layer)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", layer], check=True)
    link = site_packages(layer) / "hvp_dependencies.pth"
    link.write_text(f"import site; site.addsitedir({str(site_packages(shared))!r})\n")
    pip = [shared / "bin" / "python", "-m", "pip", "--python", layer / "bin" / "python"]
    options = ["--disable-pip-version-check", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "install", *options, "--editable", ROOT], check=True)
    (layer / "ready").touch()


if __name__ == "__main__":
    main()
