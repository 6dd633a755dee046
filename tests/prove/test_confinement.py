"""The server within what its deployments leave it: no root, no capability, a root it cannot write, no page both written and run.

Needs root on Linux with unshare and setpriv; the system calls also need strace and systemd-analyze.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess

import httpx
import pytest
from project import ROOT, text
from service import BINARY, FAST_TEXT, environment, wait_until

USER = "10001"
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
# `$1` the data folder, the rest the command. pytest keeps its folders from other users, so the folder is seen at /mnt/data; every
# other mount that can be reached becomes read-only; then root is left.
SCRIPT = """
set -e
mount --make-rprivate /
mount -t tmpfs none /mnt
mkdir /mnt/data
mount --bind "$1" /mnt/data
shift
for mount in $(awk '{print $2}' /proc/self/mounts); do
    case $mount in /proc|/proc/*|/sys|/sys/*|/dev|/dev/*|/mnt/data) ;; *) mount -o remount,bind,ro "$mount" 2>/dev/null || true ;; esac
done
for place in /tmp /var/tmp /mnt; do
    if touch "$place/written" 2>/dev/null; then echo "$place can be written"; exit 9; fi
done
exec setpriv --reuid USER --regid USER --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
""".replace("USER", USER)
LABELS = {"sunny": "good", "broken": "bad"}
ROWS = "".join(f'{{"text": "{word} {number}", "label": "{label}"}}\n' for number in range(12) for word, label in LABELS.items())


def no_page_both_written_and_run():
    """What systemd's MemoryDenyWriteExecute asks of the kernel; children inherit it. Before Linux 6.3 nothing happens."""
    ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)


class Running:
    """A server under another command, used once for each thing that it does."""

    def __init__(self, folder, data, *wrapper, **options):
        self.out = folder / "out"
        served = ["serve", "--listen", "127.0.0.1:0", "--models", ROOT / "models", "--data", data]
        command = list(map(str, [*wrapper, BINARY, *served]))
        with self.out.open("wb") as out:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=out, stderr=out, **options)
        url = wait_until(self._announced, "the server announces its address")
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        wait_until(lambda: self._announced() and self.http.get("/readyz").status_code == 200, "the server is ready")

    def _announced(self):
        assert self._process.poll() is None, self.out.read_text()
        found = re.search(r"listening on (http://\S+)", self.out.read_text())
        return found and found[1]

    def use(self):
        for headers in ({}, {"X-Priority": "bulk"}):
            answer = self.http.post("/v1/embeddings", json={"model": FAST_TEXT, "input": ["a", "b"]}, headers=headers)
            assert answer.status_code == 200, answer.text
        form = {"data": {"purpose": "fine-tune"}, "files": {"file": ("rows.jsonl", ROWS.encode())}}
        upload = self.http.post("/v1/files", **form)
        assert upload.status_code == 200, upload.text
        file = upload.json()["id"]
        job = self.http.post("/v1/fine_tuning/jobs", json={"model": FAST_TEXT, "training_file": file}).json()["id"]
        path = f"/v1/fine_tuning/jobs/{job}"
        ended = wait_until(lambda: (now := self.http.get(path).json())["finished_at"] and now, "the job ends")
        assert ended["status"] == "succeeded", ended
        purge = self.http.post("/v1/purges", json={"text": "sunny 1"}).json()
        assert (purge["status"], purge["rows"]) == ("done", 1)
        assert self.http.get("/metrics").status_code == 200

    def stop(self):
        # Not the wrapper, which would leave the server behind.
        listing = ["ps", "--no-headers", "-o", "pid", "--ppid", str(self._process.pid)]
        children = subprocess.run(listing, capture_output=True, text=True).stdout.split()
        for number in children or [self._process.pid]:
            os.kill(int(number), signal.SIGTERM)
        assert self._process.wait(60) == 0, self.out.read_text()
        self.http.close()


@pytest.mark.skipif(os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")),
                    reason="needs root, unshare and setpriv")
def test_a_server_without_rights_and_with_one_folder_to_write_does_all_its_work(tmp_path):
    data = tmp_path / "data"
    # A new disk has this folder, which belongs to root.
    (data / "lost+found").mkdir(parents=True, mode=0o700)
    os.chown(data, int(USER), int(USER))
    wrapper = ["unshare", "--mount", "bash", "-c", SCRIPT, "bash", data]
    server = Running(tmp_path, "/mnt/data", *wrapper, preexec_fn=no_page_both_written_and_run)
    try:
        server.use()
    finally:
        server.stop()


def members(listing, name):
    """The system calls of a set, and of the sets within it, as `systemd-analyze syscall-filter` lists them."""
    block = re.search(rf"(?m)^{name}\n((?: .*\n)+)", listing)[1]
    entries = [line.strip() for line in block.splitlines() if not line.strip().startswith("#")]
    return set().union(*(members(listing, entry) if entry.startswith("@") else {entry} for entry in entries))


@pytest.mark.skipif(not (shutil.which("strace") and shutil.which("systemd-analyze")), reason="strace or systemd-analyze is not installed")
def test_the_unit_allows_every_system_call_the_server_makes(tmp_path):
    trace = tmp_path / "trace"
    server = Running(tmp_path, tmp_path / "data", "strace", "--follow-forks", "--quiet=all", "-o", trace)
    try:
        server.use()
    finally:
        server.stop()
    made = set(re.findall(r"(?m)^\d+ +(?:<\.\.\. )?([a-z_0-9]+)[( ]", trace.read_text(errors="replace")))
    assert {"openat", "futex", "setpriority", "fsync"} <= made, "the trace could not be read"
    listing = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True).stdout
    allowed = set()
    for line in re.findall(r"(?m)^SystemCallFilter=(.*)$", text("deploy/systemd/headstart.service")):
        named = set().union(*(members(listing, name) for name in line.lstrip("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    # SQLite gives files to the owner of their folder where it runs as root, which it does here and the unit does not.
    assert made - allowed <= {"fchown"}
