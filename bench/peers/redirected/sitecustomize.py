"""Loaded by the Google SecOps server's own interpreter: its requests go to a simulated backend, without a Google account.

The server has no setting for its backend's address. Nothing else of it is changed.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import google.auth
import requests
from google.auth.credentials import AnonymousCredentials

_request = requests.Session.request


def _redirected(self: requests.Session, method: str, url: str, *arguments: Any, **options: Any) -> Any:
    parts = urlsplit(url)
    if str(parts.hostname).endswith("googleapis.com"):
        url = f"{os.environ['SECOPS_BACKEND']}{parts.path}"
    return _request(self, method, url, *arguments, **options)


requests.Session.request = _redirected
google.auth.default = lambda *_, **__: (AnonymousCredentials(), "simulated")
