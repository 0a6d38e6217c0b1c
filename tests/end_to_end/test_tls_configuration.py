"""TLS as an independent scanner sees it (RELIABILITY 23): sslyze, held against what Mozilla recommends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests._support import missing
from tests.end_to_end.house import APP, House


def sslyze() -> str:
    """The scanner, on PATH or where ``make sslyze`` puts it; what it depends on does not go with what we do."""
    found = shutil.which("sslyze") or shutil.which("sslyze", path=str(Path(sys.prefix) / "sslyze" / "bin"))
    return found or missing("sslyze (make sslyze)")


@pytest.mark.deadline(120)
@pytest.mark.parametrize("policy", ["intermediate", "modern"])
def test_sslyze_finds_mozillas_configuration(house: House, policy: str) -> None:
    if policy != "intermediate":  # which nobody has to ask for
        house.config["tls"]["policy"] = policy
        house.write()
    house.start_edge()
    report = house.folder / "sslyze.json"
    got = subprocess.run(
        [sslyze(), f"--mozilla_config={policy}", f"--sni={APP}", f"--certinfo_ca_file={house.ca_file}",
         f"--json_out={report}", f"127.0.0.1:{house.port}"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert got.returncode == 0, got.stdout + got.stderr
    assert f"127.0.0.1:{house.port}: OK - Compliant" in got.stdout
    (scanned,) = json.loads(report.read_text())["server_scan_results"]
    found = {name: part["result"] for name, part in scanned["scan_result"].items()}
    # what the verdict leaves out
    versions = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3")
    spoken = [name for name in versions if found[f"{name}_cipher_suites"]["accepted_cipher_suites"]]
    assert spoken == (["tls_1_2", "tls_1_3"] if policy == "intermediate" else ["tls_1_3"])
    renegotiation = found["session_renegotiation"]
    assert renegotiation["supports_secure_renegotiation"]
    assert not renegotiation["is_vulnerable_to_client_renegotiation_dos"]
    assert found["tls_fallback_scsv"]["supports_fallback_scsv"]
    # The dev CA stands in no browser's store; by its own file the chain is whole, for this name.
    (chain,) = found["certificate_info"]["certificate_deployments"]
    errors = {result["trust_store"]["name"]: result["validation_error"] for result in chain["path_validation_results"]}
    assert errors["Supplied CA file"] is None
    assert chain["received_chain_has_valid_order"]
