"""Starts a server and the crowd, looks at both every minute, and judges the sums at the end."""

import argparse
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "python"))

import backbones  # noqa: E402
import crowd  # noqa: E402
from service import BINARY, IMAGE, Service, environment, wait_until  # noqa: E402
from sums import Kinds, Ledger, Scrape, judge  # noqa: E402

# Vectors kept: few enough that they are all there after some minutes, as memory is to be looked at.
CACHE_BYTES = 8_000_000
# Growth of resident memory over the second half that passes for flat.
FLAT_MEGABYTES = 20
# Minutes in which the allocator, the caches and the runtime's arenas fill up.
WARM_MINUTES = 2
LONGEST_SECONDS = 60
KINDS = Kinds(
    tensors=backbones.TENSOR, table=backbones.WORDS, pictures=IMAGE, pixels=crowd.PHOTO_PIXELS, towers=backbones.TOWERS,
    sounds=backbones.SOUND, longest_seconds=LONGEST_SECONDS,
)
HEADER = ["minute", "requests", "2xx", "4xx", "429", "5xx", "left", "RSS MB", "files", "threads"]


def key_of_limited(data):
    """Makes a key that may ask twenty times a minute."""
    command = [BINARY, "keys", "add", "limited", "--scope", "infer", "--rate", 20, "--data", data]
    done = subprocess.run([str(part) for part in command], env=environment(), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def started(folder, limited_in):
    data = folder / "data"
    limited_in.append(key_of_limited(data))
    keys = f"user:infer+train:{crowd.KEYS['user']},keeper:infer+train+admin:{crowd.KEYS['keeper']}"
    return Service(
        folder, "--models", backbones.write(folder / "models"), "--cache-bytes", CACHE_BYTES, "--max-body-bytes", 4_000_000,
        "--request-timeout-ms", 300_000, "--max-audio-seconds", LONGEST_SECONDS,
        data=data, HEADSTART_API_KEYS=keys,
    )


def total(clients, own):
    """One ledger of all clients and of those who watch."""
    ledger = Ledger()
    for part in [*(client.ledger for client in clients), own]:
        ledger.add(part)
    return ledger


def scraped(server, own):
    """A look at the metrics, which is a request too."""
    text = server.http.get("/metrics").text
    own.statuses[200] += 1
    return Scrape(text)


def classes(ledger):
    """Answers by the first digit of their status; 429 apart."""
    of = {digit: 0 for digit in "2345"}
    for status, count in ledger.statuses.items():
        if status != 429:
            of[str(status)[0]] += count
    return of["2"], of["4"], ledger.statuses[429], of["5"]


def row(minute, ledger, before, scrape):
    """A line of the table: what the last minute had, and the process as it is now."""
    now, then = classes(ledger), classes(before)
    differences = [one - other for one, other in zip(now, then, strict=True)]
    left = ledger.left - before.left
    process = [scrape.sum("process_resident_memory_bytes") / 1e6, scrape.sum("process_open_files"), scrape.sum("process_threads")]
    return [minute, sum(differences) + left, *differences, left, *process]


def printed(cells):
    print("| " + " | ".join(f"{cell:,.0f}" if isinstance(cell, (int, float)) else str(cell) for cell in cells) + " |", flush=True)


def flat(rows, files_at_first, files_at_last, threads):
    """Whether memory, files and threads are at the end what they were."""
    after = [row[7] for row in rows if row[0] > WARM_MINUTES]
    half = len(after) // 2
    sums = []
    if half:
        first, second = sum(after[:half]) / half, sum(after[-half:]) / half
        sums.append(("resident memory, second half − first", f"{second - first:+.0f} MB, at most {FLAT_MEGABYTES}", second - first <= FLAT_MEGABYTES))
    sums.append(("files, at the end − at the start", f"{files_at_last - files_at_first:+.0f}, at most 8", files_at_last - files_at_first <= 8))
    sums.append(("threads, least and most", f"{min(threads):.0f} and {max(threads):.0f}, at most 32 apart", max(threads) - min(threads) <= 32))
    return sums


def watched(server, clients, own, minutes):
    """A row a minute; all of them."""
    # What was asked until the server was ready is in no row.
    rows, before, start = [], total([], own), time.monotonic()
    for minute in range(1, minutes + 1):
        time.sleep(max(0.0, start + 60 * minute - time.monotonic()))
        scrape, ledger = scraped(server, own), total(clients, own)
        rows.append(row(minute, ledger, before, scrape))
        printed(rows[-1])
        before = ledger
    return rows


def soak(folder, minutes):
    limited, own, stop = [], Ledger(), threading.Event()
    server = started(folder, limited)
    # Asked for until the server was ready, by whoever waits here.
    first = Scrape(server.http.get("/metrics").text)
    own.statuses.update({int(status): int(count) for status, count in first.by("requests_total", "status").items() if count})
    own.statuses[200] += 1
    clients, threads = crowd.start(server.url, limited[0], stop)
    printed(HEADER)
    print("|" + "---:|" * len(HEADER), flush=True)
    rows = watched(server, clients, own, minutes)
    stop.set()
    for thread in threads:
        thread.join()

    def still():
        scrape = scraped(server, own)
        return scrape.sum("queue_items") == 0 and scrape.sum("lanes_busy") == 0 and scrape.sum("requests_in_flight") == 1

    wait_until(still, "everything is at rest")
    files = scraped(server, own).sum("process_open_files")
    ledger = total(clients, own)
    # This one counts itself among those in flight, and is not in the ledger.
    last = scraped(server, own)
    sums = judge(first, last, ledger, KINDS) + flat(rows, first.sum("process_open_files"), files, [row[9] for row in rows])
    sums += [(f"not as it should be: {what}", f"{count}", False) for what, count in ledger.wrong.items()]
    server.stop()
    return ledger, sums


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=30, metavar="N", help="how long the crowd stays [default: 30]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger, sums = soak(Path(folder), arguments.minutes)
    print(f"\nslowest answer: {ledger.slowest:.1f} s\n\n| what must hold | figures | |\n|---|---:|---|")
    for what, figures, holds in sums:
        print(f"| {what} | {figures} | {'yes' if holds else 'NO'} |")
    print(f"\nCommand: `make bench BENCH={shlex.quote('soak --minutes ' + str(arguments.minutes))}`")
    if not all(holds for *_, holds in sums):
        sys.exit("some of it does not hold")


if __name__ == "__main__":
    main()
