"""PEM files are checked when they are named, each with one clear line."""

import pytest
from cryptography.hazmat.primitives import serialization

from mdiff_core import DataError, UsageError
from mdiff_core.tls import Certificates


@pytest.fixture
def ours(issue):
    return issue("house", "client@mdiff")


def test_files_that_belong_together_are_taken(ours):
    assert Certificates(ours.ca, ours.certificate, ours.key) == ours
    assert Certificates() == Certificates(None, None, None)


def test_a_certificate_and_its_key_are_given_together(ours):
    for half in ({"certificate": ours.certificate}, {"key": ours.key}):
        with pytest.raises(UsageError, match="give both --tls-cert and --tls-key"):
            Certificates(ours.ca, **half)


@pytest.mark.parametrize("which", ["ca", "certificate", "key"])
def test_a_file_that_is_missing_a_folder_or_no_pem_is_named(which, ours, tmp_path):
    files = {"ca": ours.ca, "certificate": ours.certificate, "key": ours.key}
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for path, complaint in [
        (tmp_path / "missing.pem", "No such file"),
        (tmp_path, "Is a directory"),
        (junk, "certificate"),
    ]:
        with pytest.raises(DataError, match=complaint) as refused:
            Certificates(**files | {which: path})
        assert str(path) in str(refused.value)


def test_the_key_of_another_certificate_is_refused(ours, issue):
    with pytest.raises(DataError, match="key values mismatch"):
        Certificates(None, ours.certificate, issue("strangers", "client@mdiff").key)


def test_an_encrypted_key_is_refused_without_asking_for_its_password(ours, tmp_path):
    key = serialization.load_pem_private_key(ours.key.read_bytes(), None)
    encrypted = tmp_path / "key.pem"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(DataError, match="unencrypted PEM key"):
        Certificates(None, ours.certificate, encrypted)
