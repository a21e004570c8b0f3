from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from anymask.nn import cpu


def test_applies_on_linux_with_glibc_and_says_so() -> None:
    # In a process of its own: the settings hold until a process ends.
    code = (
        "from anymask.nn.cpu import tune_cpu; import torch; print(tune_cpu(), torch.ones(9).sum())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    applied = platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"
    assert run.stdout.split()[0] == str(applied)


@pytest.mark.parametrize(("system", "libc"), [("Darwin", ""), ("Windows", ""), ("Linux", "musl")])
def test_does_nothing_elsewhere(system: str, libc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.platform, "system", lambda: system)
    monkeypatch.setattr(cpu.platform, "libc_ver", lambda: (libc, ""))
    assert cpu.tune_cpu() is False
