"""Write the chart's templates from the kustomizations, so that there is one truth: `make manifests` runs this.

What is installed is in deploy/base and deploy/overlays/quick-start, as kubectl renders them; a template has the
release's namespace and the values' images in their places.
"""

import subprocess
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent
DEPLOY = CHART.parent
NAMESPACE = "snoopy-operator"
#: Uninstalling is no reason to delete what people made.
CRD, KEPT = "CustomResourceDefinition", {"annotations": {"helm.sh/resource-policy": "keep"}}
NOTE = "{{- /* Made by `make manifests` from deploy/: change it there. */ -}}\n"
PLACES = {  # what is rendered, and what a release has there
    f"namespace: {NAMESPACE}": "namespace: {{ .Release.Namespace }}",
    f".namespace('{NAMESPACE}')": ".namespace('{{ .Release.Namespace }}')",
    "image: localhost/snoopy:dev": "image: {{ .Values.images.snoopy }}",
    "image: localhost/snoopy-capture:dev": "image: {{ .Values.images.capture }}",
    "image: quay.io/minio/minio:latest": "image: {{ .Values.images.minio }}",
}


class Dumper(yaml.SafeDumper):
    """YAML with text of many lines as such; Hera makes SafeDumper itself do so for whoever has imported it."""


Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def rendered(kustomization: str) -> list[dict[str, Any]]:
    """Give the objects of a kustomization; the namespace itself is for `helm install --create-namespace` to make."""
    shown = subprocess.run(
        ["kubectl", "kustomize", DEPLOY / kustomization], check=True, capture_output=True, text=True
    ).stdout
    return [each for each in yaml.safe_load_all(shown) if each["kind"] != "Namespace"]


def template(objects: list[dict[str, Any]], condition: str = "") -> str:
    """Give objects as a template; what Argo will expand is no business of Helm's."""
    kept = [each | {"metadata": each["metadata"] | KEPT} if each["kind"] == CRD else each for each in objects]
    text = yaml.dump_all(kept, Dumper=Dumper, sort_keys=False, width=1000).replace("{{", '{{ "{{" }}')
    for place, value in PLACES.items():
        text = text.replace(place, value)
    return NOTE + (f"{{{{- if {condition} }}}}\n{text}{{{{- end }}}}\n" if condition else text)


def templates() -> dict[str, str]:
    """Give the generated templates by file name."""
    base = rendered("base")
    return {
        "snoopy.yaml": template(base),
        "quick-start.yaml": template(
            [each for each in rendered("overlays/quick-start") if each not in base], ".Values.quickStart"
        ),
    }


if __name__ == "__main__":
    for name, text in templates().items():
        (CHART / "templates" / name).write_text(text)
