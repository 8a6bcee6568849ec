"""Check, without the package onnx, that an untrusted ONNX file does not make onnxruntime open other files.

onnxruntime opens the files that a tensor's external data or an EPContext node names: in the working folder or, in older
versions, anywhere. A model that aekit exported holds all its numbers, so a graph with either is refused.

A message of protocol buffers (protobuf.dev, Encoding) is a sequence of fields. Each is a varint `number << 3 | type`,
then, by its wire type: a varint (0), 8 bytes (1), a length and so many bytes (2), or 4 bytes (5). The field numbers
here are from onnx.proto.
"""

from collections.abc import Iterator

from aekit.errors import BundleError

_MODEL, _GRAPH, _FUNCTION, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _TRAINING = range(8)

_INSIDE = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {},
}
"""For each kind of message: the fields that may contain a tensor at any depth, and the kind of message in them."""

_OP_TYPE = 4
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def check_self_contained(data: bytes, where: str) -> None:
    """Raise BundleError if the ONNX file `data` is malformed or would make onnxruntime open other files.

    `where` names the file in the error. The time is proportional to the number of fields, the memory to the nesting.
    """
    view = memoryview(data)
    left = [(_MODEL, 0, len(view))]  # not recursion: messages may be nested deeper than Python's calls
    while left:
        kind, start, stop = left.pop()
        for number, wire, begin, end in _fields(view, start, stop, where):
            if kind == _TENSOR and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and begin)):
                raise BundleError(where, expected="a graph that holds its own weights", found="external data")
            if kind == _NODE and number == _OP_TYPE and wire == 2 and bytes(view[begin:end]) == b"EPContext":
                raise BundleError(where, expected="a graph of plain operators", found="EPContext, which opens files")
            inner = _INSIDE[kind].get(number)
            if inner is not None and wire == 2:
                left.append((inner, begin, end))


def _fields(view: memoryview, place: int, stop: int, where: str) -> Iterator[tuple[int, int, int, int]]:
    """Yield each field's number, wire type, and the start and end of its bytes; for a varint its value and the end."""
    while place < stop:
        tag, place = _varint(view, place, stop, where)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:  # a reader that keeps 32 bits of a larger number would see another field
            raise _malformed(where)
        if wire == 0:
            begin, end = _varint(view, place, stop, where)
        elif wire == 2:
            length, begin = _varint(view, place, stop, where)
            end = begin + length
        elif wire in (1, 5):
            begin, end = place, place + (8 if wire == 1 else 4)
        else:  # 3 and 4 are groups, which ONNX does not use
            raise _malformed(where)
        if end > stop:
            raise _malformed(where)
        yield number, wire, begin, end
        place = end


def _varint(view: memoryview, place: int, stop: int, where: str) -> tuple[int, int]:
    """Return the number that begins at `place`, seven bits a byte from the lowest, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= stop:
            break
        byte = view[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise _malformed(where)


def _malformed(where: str) -> BundleError:
    return BundleError(where, expected="an ONNX graph", found="other bytes", fix="export the model again")
