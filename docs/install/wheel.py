"""wheel.py VERSION GLIBC FOLDER OUT: a wheel of what docs/install/build has put into FOLDER, for pip."""

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

version, glibc, folder, out = sys.argv[1], sys.argv[2].replace(".", "_"), Path(sys.argv[3]), Path(sys.argv[4])
# The first is for pip 20.3 and later; the second says the same to older ones.
platforms = [f"manylinux_{glibc}_x86_64"] + ["manylinux2014_x86_64"] * (glibc == "2_17")
info, data = f"tandem_search-{version}.dist-info", f"tandem_search-{version}.data"

files = {"tandem.py": (folder / "python/tandem.py").read_bytes()}
for program in sorted((folder / "bin").iterdir()):
    files[f"{data}/scripts/{program.name}"] = program.read_bytes()
# Where man and the shells look, below the environment's own folder.
places = {
    "man/man1": "share/man/man1",
    "completions/bash": "share/bash-completion/completions",
    "completions/fish": "share/fish/vendor_completions.d",
    "completions/zsh": "share/zsh/site-functions",
}
for made, place in places.items():
    for page in sorted((folder / "share" / made).iterdir()):
        files[f"{data}/data/{place}/{page.name}"] = page.read_bytes()
for licence in ("LICENSE", "LICENSE-APACHE", "LICENSE-MIT"):
    files[f"{info}/licenses/{licence}"] = (folder / licence).read_bytes()
files[f"{info}/METADATA"] = f"""Metadata-Version: 2.1
Name: tandem-search
Version: {version}
Summary: Joint search of neural architectures and training hyperparameters on a SLURM cluster through a shared directory
License: MIT OR Apache-2.0
Requires-Python: >=3.6
""".encode()
tags = "".join(f"Tag: py3-none-{platform}\n" for platform in platforms)
files[f"{info}/WHEEL"] = f"""Wheel-Version: 1.0
Generator: tandem
Root-Is-Purelib: false
{tags}""".encode()

record = ""
path = out / f"tandem_search-{version}-py3-none-{'.'.join(platforms)}.whl"
with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:

    def add(name, content):
        entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))  # the same bytes from the same programs
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = (0o100755 if "/scripts/" in name else 0o100644) << 16
        wheel.writestr(entry, content)

    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(content)}\n"
        add(name, content)
    add(f"{info}/RECORD", (record + f"{info}/RECORD,,\n").encode())
print(path)
