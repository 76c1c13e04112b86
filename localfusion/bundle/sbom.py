"""The bundle's bill of materials in CycloneDX: packages and models, with license and digest."""

import warnings
from collections.abc import Iterable

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from localfusion import __version__
from localfusion.bundle.wheels import Wheel
from localfusion.weights import Manifest


def render_sbom(wheels: Iterable[tuple[Wheel, str]], models: Iterable[Manifest]) -> str:
    """Return the document as JSON.

    Args:
        wheels: Each with the SHA-256 of its file.
        models: What the bundle carries; a model's digest is that of its manifest.
    """
    root = Component(name="localfusion-bundle", type=ComponentType.APPLICATION, version=__version__)
    bom = Bom()
    bom.metadata.component = root
    parts = [
        *(_package(wheel, digest) for wheel, digest in wheels),
        *(_model(manifest) for manifest in models),
    ]
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(root, parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of incomplete graphs; ours has one level on purpose
        return JsonV1Dot6(bom).output_as_string(indent=1)


def _package(wheel: Wheel, digest: str) -> Component:
    return Component(
        name=wheel.name,
        version=wheel.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"wheel:{wheel.name}",
        purl=PackageURL("pypi", name=wheel.name, version=wheel.version),
        licenses=_license(wheel.license),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )


def _model(manifest: Manifest) -> Component:
    return Component(
        name=manifest.model,
        version=manifest.revision,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{manifest.model}",
        supplier=OrganizationalEntity(name=manifest.origin),
        licenses=_license(manifest.license),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=manifest.digest)],
    )


def _license(text: str) -> list[License]:
    return [] if text == "unknown" else [LicenseFactory().make_from_string(text)]
