"""A signature of a bundle's manifest, which stands for every byte, with a key of the user's own.

model-signing in key mode needs no network; its own checks of certificates and logs are not used.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from localfusion.bundle.check import Bundle
from localfusion.errors import BundleError


def _library() -> ModuleType:
    try:
        return import_module("model_signing")
    except ModuleNotFoundError as error:
        raise BundleError(
            f"signatures need the extra 'bundle' ({error.name} is missing): "
            "pip install 'localfusion[bundle]'"
        ) from error


def check_key(private_key: Path) -> None:
    """Refuse a key that cannot sign, before anything is copied.

    Raises:
        BundleError: no such file, no unencrypted elliptic key, or no library.
    """
    library = _library()
    try:
        library.signing.Config().use_elliptic_key_signer(private_key=private_key)
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(
            f"{private_key} is no private key that can sign: {error}; make one with: openssl "
            "ecparam -name prime256v1 -genkey -noout -out key.pem"
        ) from error


def sign(manifest: Path, private_key: Path, signature: Path) -> None:
    """Sign a manifest; `check_key` has accepted the key."""
    signer = _library().signing.Config().use_elliptic_key_signer(private_key=private_key)
    signer.sign(manifest, signature)


def check_signature(bundle: Bundle, public_key: Path) -> None:
    """Refuse a bundle that the owner of a key has not signed.

    Raises:
        BundleError: no signature, another key, another manifest, or no library.
    """
    library = _library()
    from cryptography.exceptions import InvalidSignature  # comes with the library

    if not bundle.signature_file.is_file():
        raise BundleError(f"{bundle.folder} is not signed; it lacks {bundle.signature_file.name}")
    try:
        checker = library.verifying.Config().use_elliptic_key_verifier(public_key=public_key)
        checker.verify(bundle.manifest_file, bundle.signature_file)
    except (InvalidSignature, OSError, ValueError, KeyError, TypeError) as error:
        why = str(error) or type(error).__name__
        raise BundleError(
            f"{bundle.folder} is not what the owner of {public_key} signed: {why}"
        ) from error
