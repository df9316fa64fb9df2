"""Protocol buffers written by hand."""

import struct


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def number(field, value):
    return varint(field << 3) + varint(value)


def fixed32(field, value):
    return varint(field << 3 | 5) + struct.pack("<f", value)


def message(field, *parts):
    body = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return varint(field << 3 | 2) + varint(len(body)) + body


def entry(field, key, value):
    return message(field, message(1, key), message(2, value))


# TensorFlow's messages


def shape(*dims):
    return b"".join(message(2, number(1, dim)) for dim in dims)


def tf_node(name, op, *inputs, dtype=0, output=None, **values):
    attributes = [entry(5, key, value) for key, value in values.items()]
    if dtype:
        attributes.append(entry(5, "T", number(6, dtype)))
    if output is not None:
        attributes.append(entry(5, "_output_shapes", message(1, message(7, shape(*output)))))
    return b"".join(
        [message(1, name), message(2, op), *(message(3, each) for each in inputs), *attributes]
    )


def graph_def(*nodes, functions=()):
    library = [message(2, *(message(1, function) for function in functions))] if functions else []
    return b"".join([*(message(1, node) for node in nodes), *library, message(4, number(1, 2000))])


def saved_model(*graphs):
    metas = [message(2, message(1, message(4, "serve")), message(2, graph)) for graph in graphs]
    return number(1, 1) + b"".join(metas)
