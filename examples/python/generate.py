"""Generates Python code of coupon.binpb into gen/.

Code of buf/validate is generated, too: its published package brings an evaluator of rules that a client does not need.
Code of google/** is not, for it is in googleapis-common-protos and protobuf.
"""

import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

image = Path("coupon.binpb")
out = Path("gen")
out.mkdir(exist_ok=True)
names = [file.name for file in FileDescriptorSet.FromString(image.read_bytes()).file]
sys.exit(
    protoc.main(
        [
            "protoc",
            f"--descriptor_set_in={image}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
            *(name for name in names if name.startswith(("coupon/", "buf/"))),
        ]
    )
)
