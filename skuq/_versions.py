"""What is installed, for reports of faults."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from threadpoolctl import threadpool_info

from . import backends

# Distributions whose versions matter, by what they are needed for.
DISTRIBUTIONS = {
    "skuq": ("skuq", "numpy", "scipy", "scikit-learn", "joblib", "threadpoolctl", "tqdm", "safetensors"),
    "backend tensorflow": ("tensorflow", "tf_keras", "tensorflow-probability", "tf-models-official"),
    "backend blitz": ("torch", "torchvision", "blitz-bayesian-pytorch"),
    "optional": ("scoringrules", "matplotlib", "pandas", "polars"),
}


def show_versions() -> None:
    """Print versions of Python, of skuq and what it stands on, and the threads in use, for a report of a fault.

    No framework is imported.

    Examples
    --------
    >>> import skuq
    >>> skuq.show_versions()
    System
      python: ...
      machine: ...
    <BLANKLINE>
    skuq
      skuq: ...
    """
    print("System")
    print(f"  python: {sys.version.split()[0]} ({sys.executable})")
    print(f"  machine: {platform.platform()}")
    for title, names in DISTRIBUTIONS.items():
        print(f"\n{title}")
        for name in names:
            print(f"  {name}: {_version(name)}")
    print(f"\nbackends that are installed: {', '.join(backends.available()) or 'none'}")
    print("\nThreads")
    for pool in threadpool_info():
        print(f"  {pool['internal_api']} {pool['version']}: {pool['num_threads']} ({pool['filepath']})")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
