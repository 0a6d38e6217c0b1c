"""An OpenID Connect provider, somebody else's: ``python issuer.py PORT CERTIFICATE KEY``."""

from __future__ import annotations

import sys
import warnings

warnings.simplefilter("ignore")  # it has those of its libraries

from oidc_provider_mock import User, app  # noqa: E402


def main(port: str, certificate: str, key: str) -> None:
    ann = User(sub="ann", claims={"email": "ann@example.test", "email_verified": True, "groups": ["staff", "x"]})
    eve = User(sub="eve", claims={"email": "eve@elsewhere.test"})
    provider = app(require_client_registration=True, require_nonce=True, user_claims=[ann, eve])
    provider.run("127.0.0.1", int(port), ssl_context=(certificate, key), threaded=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
