"""wheel.py VERSION GLIBC FOLDER DIST: a wheel of the programs, pages and completions in FOLDER, for pip."""

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

version, glibc, folder, dist = sys.argv[1], sys.argv[2].replace(".", "_"), Path(sys.argv[3]), Path(sys.argv[4])
tag = f"py3-none-manylinux_{glibc}_x86_64"
info, data = f"tandem_search-{version}.dist-info", f"tandem_search-{version}.data"

files = {}
for program in sorted((folder / "bin").iterdir()):
    files[f"{data}/scripts/{program.name}"] = program.read_bytes()
# Where man and the shells look, below the environment's own folder.
places = {".1": "share/man/man1", ".bash": "share/bash-completion/completions", ".fish": "share/fish/vendor_completions.d"}
for page in sorted((folder / "share").rglob("*")):
    if page.is_file():
        is_zsh = page.name.startswith("_") and not page.suffix
        place = "share/zsh/site-functions" if is_zsh else places.get(page.suffix)
        if place:
            name = page.stem if page.suffix == ".bash" else page.name
            files[f"{data}/data/{place}/{name}"] = page.read_bytes()
files[f"{info}/METADATA"] = f"""Metadata-Version: 2.1
Name: tandem-search
Version: {version}
Summary: Joint search of neural architectures and training hyperparameters on a SLURM cluster through a shared directory
License: MIT OR Apache-2.0
Requires-Python: >=3.6
""".encode()
files[f"{info}/WHEEL"] = f"""Wheel-Version: 1.0
Generator: tandem packaging
Root-Is-Purelib: false
Tag: {tag}
""".encode()

record = ""
path = dist / f"tandem_search-{version}-{tag}.whl"
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
    add(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
print(path)
