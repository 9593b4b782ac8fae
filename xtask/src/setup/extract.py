"""Unpacks what a CPU needs of the downloaded wheels: extract.py WHEELS_DIR TARGET_DIR"""
import os, sys, zipfile

wheels, target = sys.argv[1:]
libraries = {
    "torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp.so.1",
    "nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/lib/libcupti.so.13",
}
found, version = set(), None
for name in sorted(os.listdir(wheels)):
    if not name.endswith(".whl"):
        continue
    if name.startswith("torch-"):
        version = name.split("-")[1]
    with zipfile.ZipFile(os.path.join(wheels, name)) as wheel:
        for member in (m for m in wheel.namelist() if not m.endswith("/")):
            if member in libraries:
                found.add(member)
                to = os.path.join(target, "lib", os.path.basename(member))
            elif member.startswith("torch/include/"):
                to = os.path.join(target, member[len("torch/"):])
            elif name.startswith("torch-") and "/licenses/" in member:
                # Many are called LICENSE: the folders become part of the name.
                to = os.path.join(target, "licenses", member.split("/licenses/", 1)[1].replace("/", "-"))
            elif name.startswith("nvidia_cuda_runtime-") and "/licenses/" in member:
                # The same text as that of the other one.
                to = os.path.join(target, "licenses", "nvidia.txt")
            else:
                continue
            os.makedirs(os.path.dirname(to), exist_ok=True)
            with wheel.open(member) as source, open(to, "wb") as sink:
                while block := source.read(1 << 22):
                    sink.write(block)
missing = libraries - found
if missing:
    sys.exit(f"the wheels lack {sorted(missing)}")
# The wheel's own libtorch.so would pull in CUDA; a linker script stands in for it.
with open(os.path.join(target, "lib", "libtorch.so"), "w") as f:
    f.write("INPUT(-ltorch_cpu)\n")
with open(os.path.join(target, "build-version"), "w") as f:
    f.write(f"{version}+cpu\n")
