"""Backbones pulled from a stand-in of the hub: cut off and gone on with, tampered with, refused, offline, served."""

import contextlib
import hashlib
import json
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import tomllib

import huggingface_hub
import numpy
import onnx
import pytest
import small_repositories
from hub import Hub, Repository, Trouble, digest, wait_for_bytes
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from onnx.external_data_helper import set_external_data
from reference import text_features
from service import BINARY, MODELS, PATIENCE_SECONDS, ROOT, TEXT, Service, environment
from small_repositories import CATALOGUE
from terminal import Terminal

# Its client asks there what runs it, whatever its endpoint.
TOLERATED_HOSTS = {"huggingface.co"}

MINILM, RESNET = "all-minilm-l6", "resnet-18"
GRAPH = "onnx/model.onnx"
TOKEN = "hf_standIn0Token"


def repository_of(name):
    return CATALOGUE[name]["repository"]


class Pulling:
    """`headstart pull` into a models folder, from a hub, as a user without a home on the hub."""

    def __init__(self, folder, hub=None):
        self.models, self.hub, self.home = folder / "models", hub, folder / "home"
        self.home.mkdir(parents=True)
        self.models.mkdir()

    def command(self, *arguments):
        endpoint = ["--endpoint", self.hub.url] if self.hub else []
        return [str(part) for part in (BINARY, "pull", "--models", self.models, *endpoint, *arguments)]

    def environment(self, **variables):
        inherited = {name: value for name, value in environment().items() if not name.startswith("HF_") and not name.lower().endswith("_proxy")}
        return inherited | {"HOME": str(self.home), **variables}

    def run(self, *arguments, **variables):
        return subprocess.run(
            self.command(*arguments), cwd=ROOT, env=self.environment(**variables), capture_output=True, text=True, timeout=PATIENCE_SECONDS,
            check=False,
        )

    def pulled(self, *arguments, **variables):
        done = self.run(*arguments, **variables)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def refused(self, *arguments, **variables):
        """The one line that says why."""
        done = self.run(*arguments, **variables)
        assert done.returncode == 1 and "panicked" not in done.stderr, (done.returncode, done.stderr)
        return done.stderr.splitlines()[-1]

    def lock(self, name):
        return tomllib.loads((self.models / "headstart.lock").read_text())["backbones"][name]

    def names(self):
        """What stands in the models folder for everybody to see."""
        return sorted(path.name for path in self.models.iterdir() if not path.name.startswith("."))


@contextlib.contextmanager
def serving(repositories):
    hub = Hub(repositories)
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Files of a small picture model, as `resnet-18` names them."""
    return small_repositories.files(RESNET, tmp_path_factory.mktemp(RESNET))


@pytest.fixture
def hub(small):
    with serving({repository_of(RESNET): Repository(small)}) as hub:
        yield hub


@pytest.fixture
def pulling(tmp_path, hub):
    return Pulling(tmp_path, hub)


def test_the_hubs_own_client_downloads_from_the_stand_in(small, tmp_path):
    name = repository_of(RESNET)
    gated = Repository(small, gated=True, token=TOKEN)
    with serving({name: Repository(small), "o/gated": gated}) as hub:
        get = lambda repository, file, **options: huggingface_hub.hf_hub_download(
            repository, file, endpoint=hub.url, cache_dir=tmp_path / "cache", **options
        )
        for file in (GRAPH, "config.json"):
            assert pathlib.Path(get(name, file)).read_bytes() == small[file]
        folder = pathlib.Path(huggingface_hub.snapshot_download(name, endpoint=hub.url, local_dir=tmp_path / "all"))
        assert {path: (folder / path).read_bytes() for path in small} == small
        info = huggingface_hub.HfApi(hub.url).model_info(name, files_metadata=True)
        assert info.sha == hub.repositories[name].head
        assert {file.rfilename: (file.size, file.lfs and file.lfs.sha256) for file in info.siblings}[GRAPH] == (len(small[GRAPH]), digest(small[GRAPH]))
        for error, arguments, options in (
            (GatedRepoError, ("o/gated", GRAPH), {}), (RepositoryNotFoundError, ("o/none", GRAPH), {}),
            (RevisionNotFoundError, (name, GRAPH), {"revision": "none"}), (EntryNotFoundError, (name, "none.onnx"), {}),
        ):
            with pytest.raises(error):
                get(*arguments, token=False, **options)
        assert pathlib.Path(get("o/gated", GRAPH, token=TOKEN)).read_bytes() == small[GRAPH]
        assert not any("authorization" in headers for _, _, headers in hub.of("store"))


def test_a_pull_killed_in_the_middle_goes_on_there_and_is_served_as_the_bundled_model(tmp_path):
    bundled = MODELS / TEXT
    config = {"model_type": "bert", "hidden_size": 384, "max_position_embeddings": 512}
    files = {
        GRAPH: (bundled / "model.onnx").read_bytes(), "tokenizer.json": (bundled / "tokenizer.json").read_bytes(),
        "config.json": json.dumps(config).encode(), "sentence_bert_config.json": b'{"max_seq_length": 256}',
        "1_Pooling/config.json": b'{"word_embedding_dimension": 384, "pooling_mode_mean_tokens": true}',
        "modules.json": b'[{"type": "sentence_transformers.models.Normalize"}]', "README.md": b"---\nlicense: apache-2.0\n---\n",
        "pytorch_model.bin": b"\0",
    }
    gate, cut = threading.Event(), 30_000_000
    with serving({repository_of(MINILM): Repository(files)}) as hub:
        pulling = Pulling(tmp_path, hub)
        hub.trouble["store"].append(Trouble(cut=cut, gate=gate))
        first = subprocess.Popen(pulling.command(MINILM), cwd=ROOT, env=pulling.environment(), stderr=subprocess.DEVNULL)
        wait_for_bytes(pulling.models, cut)
        first.send_signal(signal.SIGKILL)
        first.wait()
        gate.set()
        assert pulling.names() == []
        hub.requests.clear()
        told = pulling.pulled(MINILM)
        [(_, _, resumed), *_] = hub.of("store")
        begun = int(re.fullmatch(r"bytes=(\d+)-", resumed["range"])[1])
        assert cut - (1 << 20) <= begun <= cut
        lock = pulling.lock(MINILM)
        assert lock["commit"] == hub.repositories[repository_of(MINILM)].head and lock["commit"] in told
        wanted = {name: content for name, content in files.items() if name != "pytorch_model.bin"}
        assert lock["files"] == {name: {"size": len(content), "sha256": digest(content)} for name, content in wanted.items()}
    assert pulling.names() == [MINILM, "headstart.lock"]
    assert "all-minilm-l6: it loads" in told
    service = Service(tmp_path, models=pulling.models)
    try:
        text = "How do I get my money back?"
        [vector] = service.embed(MINILM, [text])
        assert numpy.abs(numpy.array(vector) - text_features(TEXT, text)).max() < 2e-5
        [model] = [model for model in service.http.get("/v1/models").json()["data"] if model["id"] == MINILM]
        assert model["zero_shot"] and model["licence"] == "Apache-2.0"
    finally:
        service.stop()


def decimal(count):
    """Bytes as a bar writes them."""
    return f"{count} B" if count < 1000 else f"{count / 1000:.2f} kB"


def test_a_terminal_sees_what_is_fetched_and_how_much_of_it_came(pulling, hub, small):
    gate, came = threading.Event(), 1000
    hub.trouble["store"].append(Trouble(cut=came, gate=gate))
    # The large file is in its place; those that come before it by name are small ones.
    entry = CATALOGUE[RESNET]
    wanted = {name: len(small[name]) for name in [*entry["files"], *entry["optional"]] if name in small}
    before = sum(size for name, size in wanted.items() if name < GRAPH)
    so_far, whole = decimal(before + came), decimal(sum(wanted.values()))
    with Terminal(pulling.command(RESNET), pulling.environment()) as terminal:
        terminal.wait_for(rf"{re.escape(so_far)}/{re.escape(whole)} .* left +{re.escape(GRAPH)}")
        assert pulling.names() == []
        gate.set()
        assert terminal.wait() == 0, terminal.seen()
    assert terminal.shows(rf"{re.escape(GRAPH)}: {re.escape(decimal(len(small[GRAPH])))}, from the hub")
    assert pulling.names() == ["headstart.lock", RESNET]


def test_what_was_pulled_is_compared_with_the_lock_file_and_nobody_is_asked(pulling, hub, small):
    pulling.pulled(RESNET)
    hub.requests.clear()
    assert "is there, as it was pulled" in pulling.pulled(RESNET)
    graph = pulling.models / RESNET / GRAPH
    assert graph.stat().st_mode & 0o222 == 0
    graph.chmod(0o644)
    graph.write_bytes(small[GRAPH][:-1] + b"\0")
    (pulling.models / RESNET / "config.json").unlink()
    told = pulling.refused(RESNET)
    assert f"{GRAPH} is another file" in told and "config.json is missing" in told and "--update" in told
    assert hub.requests == []
    told = pulling.pulled(RESNET, "--update")
    assert graph.read_bytes() == small[GRAPH] and f"{GRAPH}: " in told
    assert len(hub.of("store")) == 1
    assert "has nothing newer" in pulling.pulled(RESNET, "--update")


def test_the_lock_file_decides_what_is_fetched_until_an_update(pulling, hub, small):
    repository = hub.repositories[repository_of(RESNET)]
    first = repository.head
    pulling.pulled(RESNET)
    second = repository.commit(small | {"README.md": b"new", GRAPH: small[GRAPH].replace(b"of_logits", b"of_logitz")})
    shutil.rmtree(pulling.models / RESNET)
    assert f"at {first}" in pulling.pulled(RESNET)
    assert pulling.lock(RESNET)["commit"] == first and (pulling.models / RESNET / GRAPH).read_bytes() == small[GRAPH]
    manifest = pulling.models / RESNET / "headstart.toml"
    manifest.write_text(manifest.read_text().replace("Apache-2.0", "MIT"))
    hub.requests.clear()
    told = pulling.pulled(RESNET, "--update")
    assert f"at {second}" in told and "headstart.toml.before" in told
    assert pulling.lock(RESNET)["commit"] == second and (pulling.models / RESNET / "README.md").read_bytes() == b"new"
    assert "MIT" in (pulling.models / RESNET / "headstart.toml.before").read_text()
    hub.requests.clear()
    # A hub that gives other bytes for the locked commit gives nothing.
    shutil.rmtree(pulling.models / RESNET)
    repository.commits[second] = repository.commits[second] | {GRAPH: small[GRAPH] + b"x"}
    assert "4321 bytes at the hub, 4320 were expected" in pulling.refused(RESNET)
    assert pulling.names() == ["headstart.lock"]
    assert "the lock file has the revision `main`" in pulling.refused(RESNET, "--revision", first)
    pulling.pulled(RESNET, "--revision", first, "--update")
    assert pulling.lock(RESNET)["revision"] == first


@pytest.mark.parametrize("asked", [[], ["--update"]], ids=["again", "update"])
def test_a_pull_that_was_killed_while_it_published_goes_on(pulling, hub, small, asked):
    """Killed between two renames: the older folder has left its place, the new one has not come to it."""
    pulling.pulled(RESNET)
    (pulling.models / RESNET / "notes.txt").write_text("mine")
    left = pulling.models / f".{RESNET}.pulling"
    left.mkdir()
    (pulling.models / RESNET).rename(left / ".older")
    told = pulling.pulled(RESNET, *asked)
    assert "is in" in told and pulling.names() == ["headstart.lock", RESNET]
    assert (pulling.models / RESNET / GRAPH).read_bytes() == small[GRAPH]
    assert (pulling.models / RESNET / "notes.txt").read_text() == "mine"
    assert not left.exists() and "as it was pulled" in pulling.pulled(RESNET)


@pytest.mark.parametrize(
    ("between", "asked"), [(False, ["--update"]), (True, []), (True, ["--update"])], ids=["before", "between", "between-update"]
)
def test_a_pull_of_a_newer_commit_that_was_killed_while_it_published_keeps_nothing_but_what_was_not_pulled(pulling, hub, small, between, asked):
    """Killed with the lock file written, before the first rename or between the two."""
    repository = hub.repositories[repository_of(RESNET)]
    pulling.pulled(RESNET)
    place, left = pulling.models / RESNET, pulling.models / f".{RESNET}.pulling"
    (place / "notes.txt").write_text("mine")
    newer = {name: content for name, content in small.items() if name != "README.md"} | {GRAPH: small[GRAPH].replace(b"of_logits", b"of_logitz")}
    head, gate = repository.commit(newer), threading.Event()
    hub.trouble["store"].append(Trouble(cut=100, gate=gate))
    updating = subprocess.Popen(pulling.command(RESNET, "--update"), cwd=ROOT, env=pulling.environment(), stderr=subprocess.DEVNULL)
    wait_for_bytes(left, 100)
    # The first rename finds this in its way: the pull ends where a kill would have it end.
    (left / ".older" / "in the way").mkdir(parents=True)
    gate.set()
    assert updating.wait() == 1 and pulling.lock(RESNET)["commit"] == head and (place / GRAPH).read_bytes() == small[GRAPH]
    shutil.rmtree(left / ".older")
    if between:
        place.rename(left / ".older")
    told = pulling.pulled(RESNET, *asked)
    assert "notes.txt was not pulled, and is kept" in told and "yours" not in told and "README" not in told, told
    kept = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert kept == {*pulling.lock(RESNET)["files"], "headstart.toml", "notes.txt"} and "README.md" not in kept
    assert (place / GRAPH).read_bytes() == newer[GRAPH] and not left.exists()
    assert "as it was pulled" in pulling.pulled(RESNET)


def test_what_is_not_the_hubs_survives_every_update(pulling, hub, small):
    repository = hub.repositories[repository_of(RESNET)]
    pulling.pulled(RESNET)
    folder = pulling.models / RESNET
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("mine")
    corrected = {}
    for update, ending in enumerate(["", ".2"]):
        manifest = folder / "headstart.toml"
        manifest.write_text(manifest.read_text().replace("Apache-2.0", f"MIT-{update}"))
        corrected[f"headstart.toml.before{ending}"] = manifest.read_text()
        for commit in ("corrected", "not"):
            repository.commit(small | {"README.md": f"{update} {commit}".encode()})
            pulling.pulled(RESNET, "--update")
            assert (folder / "README.md").read_text() == f"{update} {commit}" and "Apache-2.0" in manifest.read_text()
            assert {path.name: path.read_text() for path in folder.glob("*.before*")} == corrected
            assert (folder / "mine" / "notes.txt").read_text() == "mine"


def test_a_folder_that_came_to_the_place_while_its_files_were_fetched_stays(pulling, hub, small):
    gate, place = threading.Event(), pulling.models / RESNET
    hub.trouble["store"].append(Trouble(cut=100, gate=gate))
    first = subprocess.Popen(pulling.command(RESNET), cwd=ROOT, env=pulling.environment(), stderr=subprocess.PIPE, text=True)
    wait_for_bytes(pulling.models, 100)
    place.mkdir()
    (place / "headstart.toml").write_text("imported")
    gate.set()
    _, told = first.communicate(timeout=PATIENCE_SECONDS)
    assert first.returncode == 1 and "was not pulled" in told.splitlines()[-1], told
    assert {path.name: path.read_text() for path in place.iterdir()} == {"headstart.toml": "imported"}
    for asked in ([], ["--update"]):
        assert "is there and was not pulled" in pulling.refused(RESNET, *asked)
    shutil.rmtree(place)
    hub.requests.clear()
    pulling.pulled(RESNET)
    assert hub.of("store") == [], "what came was lost"


def test_trouble_that_passes_is_waited_for(pulling, hub, small):
    hub.trouble["listing"] += [Trouble(status=429, headers={"Retry-After": "1"}), Trouble(status=503)]
    hub.trouble["resolve"] += [Trouble(status=500)]
    hub.trouble["store"] += [Trouble(cut=1000), Trouble(cut=500), Trouble(status=416), Trouble(cut=700)]
    pulling.pulled(RESNET)
    assert (pulling.models / RESNET / GRAPH).read_bytes() == small[GRAPH]
    ranges = [headers.get("range") for _, _, headers in hub.of("store")]
    assert ranges == [None, "bytes=1000-", "bytes=1500-", None, "bytes=700-"]
    assert len(hub.of("listing")) == 3


def test_trouble_that_stays_ends_the_pull_and_keeps_what_came(pulling, hub):
    hub.trouble["store"] += [Trouble(cut=1000)] + [Trouble(status=503)] * 2
    told = pulling.refused(RESNET, "--attempts", "2")
    assert "the hub is in trouble (503)" in told and repository_of(RESNET) in told
    assert pulling.names() == []
    pulling.pulled(RESNET)
    assert hub.of("store")[-1][2]["range"] == "bytes=1000-"


def test_an_update_that_was_cut_off_goes_on_beside_weights_of_the_same_size(pulling, hub, small):
    pulling.pulled(RESNET)
    newer = small[GRAPH].replace(b"of_logits", b"of_logitz")
    assert len(newer) == len(small[GRAPH]) and newer != small[GRAPH]
    hub.repositories[repository_of(RESNET)].commit(small | {GRAPH: newer})
    hub.trouble["store"] += [Trouble(cut=1000), Trouble(cut=500)]
    for _ in range(2):
        pulling.refused(RESNET, "--update", "--attempts", "1")
    hub.requests.clear()
    pulling.pulled(RESNET, "--update")
    assert [headers["range"] for _, _, headers in hub.of("store")] == ["bytes=1500-"]
    assert (pulling.models / RESNET / GRAPH).read_bytes() == newer
    assert {(pulling.models / RESNET / name).stat().st_mode & 0o777 for name in pulling.lock(RESNET)["files"]} == {0o444}


def test_damaged_bytes_are_fetched_once_more_and_never_served(pulling, hub, small):
    hub.trouble["store"] += [Trouble(damaged=True)]
    pulling.pulled(RESNET)
    assert (pulling.models / RESNET / GRAPH).read_bytes() == small[GRAPH] and len(hub.of("store")) == 2
    shutil.rmtree(pulling.models / RESNET)
    hub.trouble["store"] += [Trouble(damaged=True)] * 2
    told = pulling.refused(RESNET)
    assert digest(small[GRAPH]) in told and "sha-256" in told
    assert pulling.names() == ["headstart.lock"]
    left = [path for path in pulling.models.rglob(digest(small[GRAPH]))]
    assert left == [], "the damaged bytes were kept"


def test_a_token_goes_to_the_endpoint_alone(small, tmp_path):
    gated = Repository(small, gated=True, token=TOKEN)
    with serving({repository_of(RESNET): gated}) as hub:
        pulling = Pulling(tmp_path, hub)
        assert "its terms must be accepted" in pulling.refused(RESNET) and "HF_TOKEN" in pulling.refused(RESNET)
        assert "its terms must be accepted" in pulling.refused(RESNET, HF_TOKEN="hf_another")
        place = pulling.home / ".cache" / "huggingface" / "token"
        place.parent.mkdir(parents=True)
        place.write_text(f"{TOKEN}\n")
        told = pulling.pulled(RESNET)
        assert hub.of("resolve")[-1][2]["authorization"] == f"Bearer {TOKEN}"
        assert not any("authorization" in headers for _, _, headers in hub.of("store")) and TOKEN not in told
        # Without TLS it is sent to no other machine.
        hub.requests.clear()
        shutil.rmtree(pulling.models / RESNET)
        pulling.hub = None
        assert "has no TLS" in pulling.refused(RESNET, "--endpoint", "http://hub.example", HF_TOKEN=TOKEN)


def test_what_is_not_there_is_named(pulling, hub, small):
    assert "the catalogue has no `resnet-19`" in pulling.refused("resnet-19")
    assert "is not there, or needs a token" in pulling.refused(MINILM)
    assert "has no such revision" in pulling.refused(RESNET, "--revision", "v9")
    hub.repositories[repository_of(RESNET)].commit({name: content for name, content in small.items() if name != GRAPH})
    assert f"has no `{GRAPH}`" in pulling.refused(RESNET)
    (pulling.models / RESNET).mkdir()
    assert "is there and was not pulled" in pulling.refused(RESNET)
    assert pulling.refused("--id", "../a", RESNET).endswith("choose another `--id`")
    hub.close()
    assert "onnection" in pulling.refused("resnet-50", "--attempts", "2")


def test_a_hostile_hub_reaches_nothing_and_fills_nothing(pulling, hub, small):
    name, sha = repository_of(RESNET), "0" * 40
    listed = lambda files: json.dumps({"sha": sha, "siblings": files}).encode()
    honest = [{"rfilename": file, "size": len(content)} for file, content in small.items()]
    hub.listing = listed([*honest, {"rfilename": "../../escaped"}, {"rfilename": "/etc/escaped"}])
    assert "has no such revision" in pulling.refused(RESNET)
    hub.listing = listed([file | {"size": 10**15} for file in honest])
    assert "at most 100.00 MB are taken" in pulling.refused(RESNET)
    for listing in (b"[]", b"{", b'{"sha": "../..", "siblings": []}', b'{"siblings": []}', b" " * (17 << 20)):
        hub.listing = listing
        assert re.search("not understood|limit", pulling.refused(RESNET))
    hub.listing = None
    for location in ("file:///etc/passwd", "ftp://127.0.0.1/a", "//127.0.0.1/a", "", f"{hub.url}/{name}/resolve/main/{GRAPH}"):
        hub.location = location
        assert "redirects" in pulling.refused(RESNET), location
    hub.location, hub.of_commit = None, "f" * 40
    assert "another commit" in pulling.refused(RESNET)
    hub.of_commit = None
    # More bytes than the listing said.
    hub.listing = json.dumps({"sha": hub.repositories[name].head, "siblings": [
        file | {"size": 10} if file["rfilename"] == GRAPH else file for file in honest
    ]}).encode()
    assert "10 were expected" in pulling.refused(RESNET)
    assert pulling.names() == [] and not list(pulling.models.parent.glob("**/escaped"))


def test_a_graph_that_asks_for_another_file_reaches_nothing(pulling, hub, small, tmp_path):
    model = onnx.load_from_string(small[GRAPH])
    weight = next(weight for weight in model.graph.initializer if weight.name == "of_logits")
    set_external_data(weight, "../../../../secret")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    hub.repositories[repository_of(RESNET)].commit(small | {GRAPH: model.SerializeToString()})
    (tmp_path / "secret").write_bytes(b"\0" * 4000)
    told = pulling.refused(RESNET)
    assert "do not load" in told and "secret" in told
    assert pulling.names() == []


def test_offline_takes_what_the_hubs_own_client_left_and_asks_nobody(pulling, hub, small):
    name, cache = repository_of(RESNET), pulling.home / "cache"
    told = pulling.refused(RESNET, "--offline")
    assert "`--offline`" in told and name in told
    for file in CATALOGUE[RESNET]["files"]:
        huggingface_hub.hf_hub_download(name, file, endpoint=hub.url, cache_dir=cache)
    hub.requests.clear()
    endpoint = pulling.hub
    pulling.hub = None
    told = pulling.pulled(RESNET, HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(cache))
    assert "from the cache" in told and (pulling.models / RESNET / GRAPH).read_bytes() == small[GRAPH]
    assert pulling.lock(RESNET)["commit"] == endpoint.repositories[name].head
    # What is in its place needs no cache; what is wanted by the lock file and damaged in the cache is not taken.
    assert "as it was pulled" in pulling.pulled(RESNET, "--offline")
    shutil.rmtree(pulling.models / RESNET)
    blob = next(path for path in cache.rglob("*") if path.is_file() and path.read_bytes() == small[GRAPH])
    blob.chmod(0o644)
    blob.write_bytes(small[GRAPH][:-1] + b"\1")
    assert f"has no `{GRAPH}` as it is wanted" in pulling.refused(RESNET, "--offline", HF_HUB_CACHE=str(cache))
    assert "`--offline` forbids" in pulling.refused(RESNET, "--offline", "--update")
    assert hub.requests == []
    # Online the cache saves the download, and a damaged file in it does no harm.
    pulling.hub = endpoint
    told = pulling.pulled(RESNET, HF_HUB_CACHE=str(cache))
    assert re.search(r": config.json: .*, from the cache", told) and re.search(rf"{GRAPH}: .*, from the hub", told), told
    assert (pulling.models / RESNET / GRAPH).read_bytes() == small[GRAPH]


def test_two_pulls_at_once_do_not_meet(pulling, hub):
    gate = threading.Event()
    hub.trouble["store"].append(Trouble(cut=100, gate=gate))
    first = subprocess.Popen(pulling.command(RESNET), cwd=ROOT, env=pulling.environment(), stderr=subprocess.DEVNULL)
    wait_for_bytes(pulling.models, 100)
    assert "another `headstart pull` is at work" in pulling.refused(RESNET)
    gate.set()
    assert first.wait(PATIENCE_SECONDS) == 0 and RESNET in pulling.names()


def test_the_catalogue_is_listed_shown_and_begins_an_entry_of_ones_own(pulling, hub):
    listed = pulling.run("--list").stdout
    assert [line.split()[0] for line in listed.splitlines()] == sorted(CATALOGUE)
    assert "never run" in listed and "its form only" in listed
    shown = pulling.run("--show", RESNET).stdout
    assert tomllib.loads(shown) == CATALOGUE[RESNET]
    own = pulling.home / "mine.toml"
    own.write_text(shown + "\n[manifest.backbone]\noriginal = \"resnet-18\"\n")
    pulling.pulled(own)
    assert pulling.names() == ["headstart.lock", "mine"]
    assert tomllib.loads((pulling.models / "mine" / "headstart.toml").read_text())["backbone"]["original"] == "resnet-18"
    assert "pulled as" not in pulling.run("--list").stdout
    pulling.pulled(RESNET, "--id", "again")
    assert "pulled as `again`" in pulling.run("--list").stdout
    assert "was pulled from" in pulling.refused("resnet-50", "--id", "again")
    own.write_text(shown.replace(GRAPH, "../" + GRAPH))
    assert "is not a plain path" in pulling.refused(own, "--id", "x")
    own.write_text(shown.replace('reading = "folder"', 'reading = "entry"'))
    assert "`[manifest]`" in pulling.refused(own, "--id", "x")


def test_every_entry_of_the_catalogue_makes_a_backbone_of_graphs_of_its_form(tmp_path):
    made = {name: small_repositories.files(name, tmp_path / "files" / name) for name in CATALOGUE}
    with serving({repository_of(name): Repository(files) for name, files in made.items()}) as hub:
        pulling = Pulling(tmp_path / "pulled", hub)
        pulling.pulled(*CATALOGUE)
    assert pulling.names() == sorted([*CATALOGUE, "headstart.lock"])
    listed = subprocess.run([BINARY, "models", "--models", pulling.models], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stdout
    loaded = {line.split()[0]: line.split()[1] for line in listed.stdout.splitlines()}
    assert loaded == {name: entry["reads"].split(",")[0] for name, entry in CATALOGUE.items()}
    for name, entry in CATALOGUE.items():
        manifest = tomllib.loads((pulling.models / name / "headstart.toml").read_text())
        assert manifest["backbone"]["licence"] == entry["licence"] and manifest["backbone"]["source_task"] == entry["source_task"]
        assert manifest["backbone"]["sha256"] == hashlib.sha256(made[name][manifest["backbone"]["file"]]).hexdigest()
