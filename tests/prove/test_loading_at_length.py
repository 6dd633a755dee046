"""Two hundred loads and unloads of a backbone of texts: memory stays where it was."""

import shutil

from service import MODELS, TEXT, Service, wait_until

CYCLES = 200


def test_two_hundred_loads_and_unloads_keep_no_memory(tmp_path):
    shutil.copytree(MODELS / TEXT, tmp_path / "models" / "other")
    manifest = tmp_path / "models" / "other" / "headstart.toml"
    manifest.write_text(manifest.read_text().replace(f'id = "{TEXT}"', 'id = "other"'))
    shutil.copytree(MODELS / TEXT, tmp_path / "models" / TEXT)
    folder = tmp_path / "server"
    folder.mkdir()
    server = Service(folder, "--cache-bytes", 0, models=tmp_path / "models")

    def cycle():
        assert server.post("/v1/models/other/load", {}).status_code == 200
        server.embed("other", ["a few texts", "of different lengths, so that the runtime keeps memory for each of them", "b"])
        assert server.post("/v1/models/other/unload", {}).status_code == 200

    for _ in range(5):
        cycle()
    before, files = server.resident_megabytes(), server.metric("process_open_files")
    for number in range(CYCLES):
        cycle()
        if number % 50 == 49:
            print(f"{number + 1} cycles: {server.resident_megabytes():.0f} MB, at first {before:.0f} MB")
    wait_until(lambda: abs(server.resident_megabytes() - before) < 20, f"resident memory stays near {before:.0f} MB")
    assert abs(server.metric("process_open_files") - files) < 5
    server.stop()
