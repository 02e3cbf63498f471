"""Addresses of databases: which may hold a secret, and that none of it is stored, told or sent."""

from __future__ import annotations

import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fiftyone as fo
import fiftyone.brain as fob
import pytest

from fiftyone_isoclip.dataset import build_similarity
from fiftyone_isoclip.dataset.similarity_backends import BACKENDS, config_class
from fiftyone_isoclip.dataset.similarity_backends.config import make_config
from fiftyone_isoclip.errors import DatasetError

SECRET_URIS = [
    "postgresql://someone@host/db",
    "postgresql://someone:s3cret@host:5432/db",
    "postgresql://u:s3c/ret@localhost/db",
    "postgresql://u:s3c#r@et@localhost/db",
    "postgresql://u:s3c?ret@localhost/db",
    "postgresql://u:p[ss@host/db",
    "postgresql://u:p\u2100ss@host/db",
    "postgresql://u:p%zzss@host/db",
    "postgresql://host/db?password=s3cret",
    "postgresql://host/db?pass%77ord=s3cret",
    "postgres://host/db?sslpassword=s3cret",
    "https://host:19530?token=abc",
    "https://host:1?auth=zzz",
    "https://host/?pwd=abc",
    "az://container/path?sv=2022&sig=abc",
    "s3://bucket/path?X-Amz-Signature=abc",
    "http://host:19530/#key",
]
SECRET_KEYWORDS = [
    "host=there dbname=db user=someone password=s3cret",
    "host=there password=my s3cret",
    "host=there password='s3cr\\'et' bad",
    "HOST=there PASSWORD=s3cret",
    "host = there user = bob pass=x",
    "host=there user=bob",
    "service=production",
    "host=there passfile=/x",
    "host=there sslpassword=s3cret",
    "password=a://b host=there",
    "dbname=postgresql://u:s3cret@host/db",
    "dbname='host=x password=s3cret'",
    "postgresql:/u:s3cret@host/db",
    " postgresql://u:s3cret@host/db",
    "u:s3cret",
]
PUBLIC_URIS = ["http://localhost:19530", "s3://bucket/some/tables", "gs://bucket/tables"]
PATHS = [
    "/data/tables",
    "~/tables.db",
    "/data/tokenizers/vectors",
    "/srv/monkey=1/x",
    "/data/me@home/v",
    "C:/password=x",
]
PUBLIC_KEYWORDS = [
    "host=x dbname=y",
    "host = /run/postgresql  port=5432 dbname = 'my db' sslmode=require",
    "postgresql://%2Frun%2Fpostgresql/db",
    "postgresql://[::1]:5432/db",
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("address", SECRET_URIS)
def test_a_uri_with_a_user_or_parameters_is_secret(backend: str, address: str) -> None:
    assert config_class(backend).holds_secret(address)


@pytest.mark.parametrize("address", SECRET_KEYWORDS)
def test_keywords_that_are_not_known_to_be_public_are_secret(address: str) -> None:
    assert config_class("pgvector").holds_secret(address)


@pytest.mark.parametrize("backend", ["lancedb", "milvus"])
@pytest.mark.parametrize("address", [*PUBLIC_URIS, *PATHS])
def test_paths_and_bare_uris_are_public(backend: str, address: str) -> None:
    assert not config_class(backend).holds_secret(address)


@pytest.mark.parametrize("address", PUBLIC_KEYWORDS)
def test_public_keywords_are_public(address: str) -> None:
    assert not config_class("pgvector").holds_secret(address)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:s3cret@localhost:1/db",
        "postgresql://u:s3cret/s3cret@localhost:1/db",
        "postgresql://u:s3cret%zz@localhost:1/db",
        "postgresql://u:[s3cret@localhost:1/db",
        "postgresql://u:s3cret\u2100@localhost:1/db",
        "postgresql://localhost:1/db?password=top%zzs3cret",
        "postgresql://localhost:1/db?password=s3cret&foo=bar",
        "host=localhost port=1 password=my s3cret",
        "host=localhost port=1 user=u password='s3cr\\'et' s3cret",
    ],
)
def test_no_word_of_a_secret_address_is_told(dataset: fo.Dataset, address: str) -> None:
    pytest.importorskip("psycopg2")
    with pytest.raises(DatasetError, match=r"^pgvector at its address did not.*") as caught:
        build_similarity(dataset, brain_key="x", backend="pgvector", uri=address)
    told = "".join(traceback.format_exception(caught.value))
    assert "s3cr" not in told and "u:" not in str(caught.value)
    assert dataset.list_brain_runs() == []


@pytest.mark.parametrize("address", SECRET_URIS)
def test_a_secret_address_is_not_stored(dataset: fo.Dataset, address: str) -> None:
    config = config_class("lancedb")(uri=address)
    config.settle(dataset)
    assert config.address is None
    assert address not in str(config.serialize())
    assert config.connected_address == address


MILVUS = {"uri": "http://good:19530", "token": "s3cret", "user": "me", "client_key_path": "/key"}


@pytest.mark.parametrize(
    ("uri", "given"),
    [(None, True), (MILVUS["uri"], True), ("http://127.0.0.1:1", False), ("/tables.db", False)],
)
def test_credentials_of_the_environment_are_for_its_address_alone(
    dataset: fo.Dataset, monkeypatch: pytest.MonkeyPatch, uri: str | None, given: bool
) -> None:
    monkeypatch.setitem(fob.brain_config.similarity_backends, "milvus", MILVUS)
    config = make_config("milvus", uri)
    config.settle(dataset)
    loaded = config_class("milvus").from_dict(config.serialize())
    loaded.load_credentials()
    for each in (config, loaded):
        found = [getattr(each, name) for name in ("token", "user", "client_key_path")]
        assert found == (["s3cret", "me", "/key"] if given else [None] * 3)
        assert each.connected_address == (uri or MILVUS["uri"])


def test_a_foreign_server_is_told_no_token(
    dataset: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("pymilvus")
    told = []

    class Listener(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, call: Any) -> None:
            told.append(dict(call.invocation_metadata))

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Listener(),))
    uri = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    monkeypatch.setitem(fob.brain_config.similarity_backends, "milvus", MILVUS)
    server.start()
    try:
        with pytest.raises(DatasetError, match="did not do what was asked"):
            build_similarity(dataset, brain_key="x", backend="milvus", uri=uri)
    finally:
        server.stop(None).wait()
    assert told
    assert not any("authorization" in headers for headers in told)


@pytest.fixture(autouse=True)
def _no_address_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in BACKENDS:
        monkeypatch.setitem(fob.brain_config.similarity_backends, backend, {})
