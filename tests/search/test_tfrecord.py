"""TFRecord framing, and the NAS-Bench-101 file written with protobuf's own library."""

import base64
import json
import struct

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from gemnet.errors import DataError, UnknownNameError
from gemnet.search.evaluators.table import TableEvaluator
from gemnet.search.spaces.nasbench101 import OPS, Spec
from gemnet.search.table import load_table
from gemnet.search.table_nasbench101 import parse_metrics
from gemnet.search.tfrecord import masked_crc32c, records

SMALL = Spec.parse([[0, 1], [0, 0]], ["input", "output"])
LARGE = Spec.parse([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], ["input", OPS[2], OPS[2], "output"])
PUBLISHED_HASH = "001a6fcc8b38cbc515be788a86bdc804"  # of LARGE


def crc32c(data: bytes) -> int:
    """Bit by bit, as the definition says."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked(head)) + data + struct.pack("<I", masked(data))


@pytest.fixture
def file(tmp_path):
    def write(*parts):
        path = tmp_path / "file.tfrecord"
        path.write_bytes(b"".join(parts))
        return path

    return write


@pytest.fixture(scope="module")
def metrics_message():
    """Makes ModelMetrics messages with a class that protobuf builds from the published field numbers."""
    kind = descriptor_pb2.FieldDescriptorProto
    proto = descriptor_pb2.FileDescriptorProto(name="model_metrics.proto", package="nasbench", syntax="proto2")
    whole, part = proto.message_type.add(name="ModelMetrics"), proto.message_type.add(name="EvaluationData")
    names = ("current_epoch", "training_time", "train_accuracy", "validation_accuracy", "test_accuracy")
    for number, name in enumerate(names, start=1):
        part.field.add(name=name, number=number, type=kind.TYPE_DOUBLE, label=kind.LABEL_OPTIONAL)
    part.field.add(name="checkpoint_path", number=6, type=kind.TYPE_STRING, label=kind.LABEL_OPTIONAL)
    whole.field.add(name="evaluation_data", number=1, type=kind.TYPE_MESSAGE, label=kind.LABEL_REPEATED,
                    type_name=".nasbench.EvaluationData")  # fmt: skip
    whole.field.add(name="trainable_parameters", number=2, type=kind.TYPE_INT32, label=kind.LABEL_OPTIONAL)
    whole.field.add(name="total_time", number=3, type=kind.TYPE_DOUBLE, label=kind.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    cls = message_factory.GetMessageClass(pool.FindMessageTypeByName("nasbench.ModelMetrics"))

    def make(params, val_acc, test_acc):
        message = cls(trainable_parameters=params, total_time=99.5)
        for epoch, share in ((0.0, 0.1), (54.0, 0.9), (108.0, 1.0)):
            message.evaluation_data.add(
                current_epoch=epoch, training_time=10 * epoch, train_accuracy=1.0, validation_accuracy=share * val_acc,
                test_accuracy=share * test_acc, checkpoint_path="/some/where",
            )  # fmt: skip
        return message.SerializeToString()

    return make


def row(spec, message, key=None, epochs=108):
    cell = spec.pruned
    bits = "".join(str(int((i, j) in cell.edges)) for i in range(len(cell.ops)) for j in range(len(cell.ops)))
    fields = [key or spec.key, epochs, bits, ",".join(cell.ops), base64.b64encode(message).decode()]
    return framed(json.dumps(fields).encode())


def test_sums_are_crc_32c():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    texts = [b"123456789", b"", b"a", bytes(range(256)), b"\0" * 32]
    assert masked_crc32c(texts).tolist() == [masked(text) for text in texts]


def test_records_come_back_in_order(file):
    texts = [b"one", b"", b"three" * 100]
    assert list(records(file(*map(framed, texts)))) == texts
    assert list(records(file())) == []


@pytest.mark.parametrize(("place", "message"), [
    (3, "in the length of record 0"), (8, "in the length of record 0"), (13, "is damaged in record 0"),
    (20, "in the length of record 1"), (-1, "is damaged in record 1"),
])  # fmt: skip
def test_a_flipped_bit_is_found(place, message, file):
    data = bytearray(framed(b"one") + framed(b"two"))
    data[place] ^= 1
    with pytest.raises(DataError, match=message):
        list(records(file(bytes(data))))


@pytest.mark.parametrize(("kept", "record"), [(5, 0), (14, 0), (25, 1), (36, 1)])
def test_a_cut_file_is_found(kept, record, file):
    with pytest.raises(DataError, match=f"ends within record {record};"):
        list(records(file((framed(b"one") + framed(b"two"))[:kept])))


def test_an_absurd_length_is_not_believed(file):
    head = struct.pack("<Q", 1 << 40)
    with pytest.raises(DataError, match="claims 1099511627776 bytes for record 0"):
        list(records(file(head, struct.pack("<I", masked(head)))))


def test_the_official_format_is_read(file, metrics_message):
    path = file(
        row(LARGE, metrics_message(1_756_298, 0.9, 0.8), PUBLISHED_HASH), row(SMALL, metrics_message(5, 0.5, 0.4)),
        row(LARGE, metrics_message(1_756_298, 0.92, 0.84)), row(LARGE, metrics_message(7, 0.3, 0.3), epochs=4),
    )  # fmt: skip
    table = load_table(f"nasbench101:{path}")
    assert list(table.archs) == [LARGE, SMALL] == table.archs[:]
    assert TableEvaluator(f"nasbench101:{path}").evaluate(LARGE, 0) == pytest.approx(
        {"val_acc": 0.91, "test_acc": 0.82, "params": 1_756_298, "train_s": 1080}
    )
    assert load_table(f"nasbench101:{path}?epochs=4").metrics["val_acc"].tolist() == pytest.approx([0.3])


def test_a_file_of_something_else_is_refused(file, metrics_message):
    message = metrics_message(5, 0.5, 0.4)
    with pytest.raises(DataError, match="no cell of '12' epochs, but of 108"):
        load_table(f"nasbench101:{file(row(SMALL, message))}?epochs=12")
    with pytest.raises(UnknownNameError, match="epochs"):
        load_table(f"nasbench101:{file(row(SMALL, message))}?epoch=12")
    wrong = "0" * 32
    for number, (part, text) in enumerate([
        (framed(b"{}"), "record 0 is no NAS-Bench-101 row"),
        (row(SMALL, message[:-3]), "record 0: the metrics are no ModelMetrics"),
        (row(SMALL, b""), "record 0: the metrics are no ModelMetrics"),
        (row(SMALL, message, key=wrong), f"the cell under the hash {wrong} has the hash"),
        (framed(json.dumps([wrong, 108, "010", "input,output", ""]).encode()), "the metrics are no"),
        (framed(json.dumps([wrong, 108, "010", "input,output", base64.b64encode(message).decode()]).encode()),
         "no cell has the adjacency"),
    ]):  # fmt: skip
        path = file(part).rename(file().with_name(f"{number}.tfrecord"))
        path.write_bytes(part)
        with pytest.raises(DataError, match=text):
            load_table(f"nasbench101:{path}")


def test_unknown_fields_are_passed_over(metrics_message):
    extra = bytes([9 << 3 | 0, 0x81, 0x01]) + bytes([10 << 3 | 5, 0, 0, 0, 0]) + bytes([11 << 3 | 2, 1, 7])
    assert parse_metrics(metrics_message(5, 0.5, 0.4) + extra, "here").params == 5
    with pytest.raises(DataError, match="here: the metrics are no"):
        parse_metrics(bytes([9 << 3 | 3]), "here")
