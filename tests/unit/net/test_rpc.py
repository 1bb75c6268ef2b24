"""The wire, byte by byte: servers and clients in other languages rely on it.

The bytes are written by hand, following https://protobuf.dev/programming-guides/encoding/: a tag is
`number << 3 | type`, where type 0 is a varint and type 2 a length with that many bytes.
"""

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from hello_mesh.net import rpc
from hello_mesh.net.pb import landing_pb2
from hello_mesh.net.pb.landing_pb2 import FAIL, OK, TalkRequest, TalkResponse, TalkResult

# A map entry is a message with the key as field 1 and the value as field 2.
KV = b"\x1a\x0d" + b"\x0a\x04data" + b"\x12\x05Hello"

GOLDEN: list[tuple[Message, bytes]] = [
    (TalkRequest(), b""),
    (TalkRequest(data="0"), b"\x0a\x01" + b"0"),
    (TalkRequest(data="0,1,2", meta="PYTHON"), b"\x0a\x050,1,2" + b"\x12\x06PYTHON"),
    (TalkRequest(meta="x" * 200), b"\x12\xc8\x01" + b"x" * 200),
    (TalkResult(), b""),
    (TalkResult(id=1, type=OK), b"\x08\x01"),
    (TalkResult(type=FAIL), b"\x10\x01"),
    (TalkResult(id=1_700_000_000), b"\x08\x80\xe2\xcf\xaa\x06"),
    (TalkResult(id=-1), b"\x08" + b"\xff" * 9 + b"\x01"),
    (TalkResult(kv={"data": "Hello"}), KV),
    (TalkResult(kv={"": ""}), b"\x1a\x04" + b"\x0a\x00" + b"\x12\x00"),
    (
        TalkResult(kv={"data": "こんにちは"}),
        b"\x1a\x17\x0a\x04data\x12\x0f\xe3\x81\x93\xe3\x82\x93\xe3\x81\xab\xe3\x81\xa1\xe3\x81\xaf",
    ),
    (TalkResponse(), b""),
    (TalkResponse(status=200), b"\x08\xc8\x01"),
    (
        TalkResponse(status=200, results=[TalkResult(id=1, kv={"data": "Hello"}), TalkResult(type=FAIL)]),
        b"\x08\xc8\x01" + b"\x12\x11\x08\x01" + KV + b"\x12\x02\x10\x01",
    ),
]


@pytest.mark.parametrize(("message", "encoded"), GOLDEN)
def test_a_message_encodes_to_these_bytes(message: Message, encoded: bytes) -> None:
    assert message.SerializeToString(deterministic=True) == encoded


@pytest.mark.parametrize(("message", "encoded"), GOLDEN)
def test_these_bytes_decode_to_the_message(message: Message, encoded: bytes) -> None:
    assert type(message).FromString(encoded) == message


def test_the_file_options_are_those_of_the_original() -> None:
    options = landing_pb2.DESCRIPTOR.GetOptions()
    assert options.java_multiple_files is True
    assert options.java_package == "org.feuyeux.grpc.proto"
    assert options.java_outer_classname == "Landing"
    assert options.go_package == "common/pb"
    assert landing_pb2.DESCRIPTOR.package == "org.feuyeux.grpc"


def test_the_service_and_its_methods_are_those_of_the_original() -> None:
    assert rpc.LANDING_SERVICE.full_name == "org.feuyeux.grpc.LandingService"
    methods = [
        (m.name, m.client_streaming, m.server_streaming, m.input_type.name, m.output_type.name)
        for m in rpc.LANDING_SERVICE.methods
    ]
    assert methods == [
        ("Talk", False, False, "TalkRequest", "TalkResponse"),
        ("TalkOneAnswerMore", False, True, "TalkRequest", "TalkResponse"),
        ("TalkMoreAnswerOne", True, False, "TalkRequest", "TalkResponse"),
        ("TalkBidirectional", True, True, "TalkRequest", "TalkResponse"),
    ]
    assert rpc.method_path("Talk") == "/org.feuyeux.grpc.LandingService/Talk"


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (
            TalkRequest,
            [
                ("data", 1, FieldDescriptor.TYPE_STRING, False),
                ("meta", 2, FieldDescriptor.TYPE_STRING, False),
            ],
        ),
        (
            TalkResponse,
            [
                ("status", 1, FieldDescriptor.TYPE_INT32, False),
                ("results", 2, FieldDescriptor.TYPE_MESSAGE, True),
            ],
        ),
        (
            TalkResult,
            [
                ("id", 1, FieldDescriptor.TYPE_INT64, False),
                ("type", 2, FieldDescriptor.TYPE_ENUM, False),
                ("kv", 3, FieldDescriptor.TYPE_MESSAGE, True),
            ],
        ),
    ],
)
def test_the_fields_are_those_of_the_original(
    message: type[Message], fields: list[tuple[str, int, int, bool]]
) -> None:
    found = [(f.name, f.number, f.type, f.is_repeated) for f in message.DESCRIPTOR.fields]
    assert found == fields


def test_the_types_of_a_result_are_those_of_the_original() -> None:
    assert dict(landing_pb2.ResultType.items()) == {"OK": 0, "FAIL": 1}


def test_the_file_has_nothing_but_the_contract() -> None:
    assert set(landing_pb2.DESCRIPTOR.message_types_by_name) == {"TalkRequest", "TalkResponse", "TalkResult"}
    assert set(landing_pb2.DESCRIPTOR.enum_types_by_name) == {"ResultType"}
    assert set(landing_pb2.DESCRIPTOR.services_by_name) == {"LandingService"}


def test_status_and_limits_are_fixed() -> None:
    assert rpc.STATUS_ANSWERED == 200
    assert rpc.MAX_RESPONSE_BYTES == 4194304
