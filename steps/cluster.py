"""The Kubernetes API: how to reach it, and its errors in sentences."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from urllib3.util import Retry

BAD_REQUEST, NOT_FOUND, CONFLICT = 400, 404, 409
#: How long the API may take to be reached, and to say something, in seconds: the library would wait for minutes.
CONNECT, READ = 5.0, 60.0


class ClusterError(Exception):
    """The Kubernetes API refused, with an HTTP status, or could not be reached; the message is one sentence."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _PromptClient(client.ApiClient):
    """A client that gives up on an address where nobody answers."""

    def call_api(self, *args: Any, **kwargs: Any) -> Any:
        timeout = kwargs.get("_request_timeout") or (CONNECT, READ)
        return super().call_api(*args, **{**kwargs, "_request_timeout": timeout})


def connect(context: str | None = None) -> client.ApiClient:
    """Connect with the user's kubeconfig, or as a pod's service account where there is none. Raises ClusterError."""
    try:
        if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config()  # type: ignore[no-untyped-call]
        else:
            config.load_kube_config(context=context)  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        where = f" in {os.environ['KUBECONFIG']}" if "KUBECONFIG" in os.environ else ""
        raise ClusterError(f"no Kubernetes cluster is configured{where}: {error}") from None
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:  # as the file's shape breaks it
        name = os.environ.get("KUBECONFIG", "~/.kube/config")
        raise ClusterError(f"KUBECONFIG: {name!r}: it cannot be read as a kubeconfig: {type(error).__name__}") from None
    configuration = client.Configuration.get_default_copy()
    configuration.retries = Retry(total=1, backoff_factor=0.2)
    return _PromptClient(configuration)


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn the API's errors into a ClusterError that says what was being done: `doing` follows 'cannot'."""
    try:
        yield
    except client.ApiException as error:
        raise ClusterError(f"cannot {doing}: {_message(error)}", error.status) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ClusterError(f"cannot {doing}: the Kubernetes API cannot be reached: {type(reason).__name__}") from None


def _message(error: client.ApiException) -> str:
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
