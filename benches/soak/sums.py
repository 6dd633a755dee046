"""What the server counted, read from one scrape, and the sums that must come out even."""

import collections
import dataclasses
import re

SERIES = re.compile(r"^headstart_([a-z_]+)(?:\{(.*)\})? (\S+)$")

# Codes of refusals by the reasons that the server counts them under; clients that leave are never refused for these.
REASONS = {
    "invalid_api_key": "unauthorised", "insufficient_scope": "unauthorised", "too_many_items": "too_many_items",
    "body_too_large": "body_too_large", "image_too_large": "image_too_large", "audio_too_long": "audio_too_long",
    "rate_limit_exceeded": "key_rate", 401: "unauthorised", 403: "unauthorised",
}

# What clients that leave are answered where they are: their requests are good, or cut off.
LEFT_WITH = {200, 400, 429}


class Scrape:
    """Every series of one look at `/metrics`."""

    def __init__(self, text):
        self._series = []
        for line in text.splitlines():
            if found := SERIES.match(line):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
                self._series.append((found[1], labels, float(found[3])))

    def sum(self, name, **labels):
        """The sum of a family's series that carry `labels`."""
        return sum(value for family, carried, value in self._series if family == name and labels.items() <= carried.items())

    def by(self, name, label):
        """A family's sums by one of its labels."""
        sums = collections.Counter()
        for family, carried, value in self._series:
            if family == name:
                sums[carried[label]] += value
        return sums


@dataclasses.dataclass(frozen=True)
class Kinds:
    """Backbones whose items are counted in a way of their own, by their names, and what their items are made of."""

    # Raw tensors, of which an entry of the queue holds several rows; a table, whose texts no cache is asked for.
    tensors: str
    table: str
    # Pictures alone, all good ones of so many pixels; texts and pictures; sounds, each shorter than the server's limit.
    pictures: str
    pixels: int
    towers: str
    sounds: str
    longest_seconds: float


class Ledger:
    """What the clients sent and what came back."""

    def __init__(self):
        self.statuses, self.codes, self.wrong = collections.Counter(), collections.Counter(), collections.Counter()
        self.slowest = 0.0
        # Requests whose client left: the server may have read them or not, and answered or not.
        self.left = 0
        # Items in lists that were answered with 200 by backbones that compute each anew.
        self.items = 0

    def answered(self):
        return self.statuses.total()

    def add(self, other):
        """Takes another client's counts."""
        self.statuses += other.statuses
        self.codes += other.codes
        self.wrong += other.wrong
        self.slowest = max(self.slowest, other.slowest)
        self.left += other.left
        self.items += other.items


def between(what, value, least, most):
    return what, f"{least:,.0f} ≤ {value:,.0f} ≤ {most:,.0f}", least <= value <= most


def equal(what, value, wanted):
    return what, f"{value:,.0f} = {wanted:,.0f}", value == wanted


def faults(scrape):
    """Answers that were the server's own fault."""
    return sum(count for status, count in scrape.by("requests_total", "status").items() if status[0] == "5")


def judge(first, scrape, ledger, kinds):
    """Every sum: what it says, its figures, whether it holds. The scrape is the one request that is in flight; `first` was
    made when the server was ready, and not before it said so.
    """
    answered, cancelled = scrape.sum("requests_total"), scrape.sum("requests_cancelled_total")
    received, here = scrape.sum("requests_received_total"), ledger.answered()
    sums = [
        equal("received = answered + cancelled + in flight", received, answered + cancelled + scrape.sum("requests_in_flight")),
        equal("in flight are none but this scrape", scrape.sum("requests_in_flight"), 1),
        between("received, of those that clients sent", received - 1, here, here + ledger.left),
        between("answered, of those that clients sent", answered, here, here + ledger.left),
        equal("durations observed = answered", scrape.sum("request_duration_seconds_count"), answered),
        equal("5xx since it was ready", faults(scrape) - faults(first), 0),
        equal("panics", scrape.sum("panics_total"), 0),
    ]
    statuses = scrape.by("requests_total", "status")
    for status in sorted({*ledger.statuses} | {int(status) for status, count in statuses.items() if count}):
        counted, told = ledger.statuses[status], statuses[str(status)]
        what = f"answered with {status}"
        sums.append(between(what, told, counted, counted + ledger.left) if status in LEFT_WITH else equal(what, told, counted))
    wanted = collections.Counter()
    for code, count in ledger.codes.items():
        if code in REASONS:
            wanted[REASONS[code]] += count
    for reason in sorted(set(REASONS.values())):
        sums.append(equal(f"refused for {reason}", scrape.sum("rejections_total", reason=reason), wanted[reason]))
    others = set(scrape.by("rejections_total", "reason")) - set(REASONS.values())
    for reason in sorted(others):
        refused = scrape.sum("rejections_total", reason=reason) - first.sum("rejections_total", reason=reason)
        sums.append(equal(f"refused for {reason}, which nobody here gives cause for", refused, 0))
    return sums + items(scrape, ledger) + work(scrape, kinds) + looked_up(scrape, ledger, kinds)


def items(scrape, ledger):
    """What holds of items: each that entered a queue left it one way, and was in at most one call."""
    outcomes = scrape.by("items_total", "outcome")
    computed = outcomes["answered"] + outcomes["failed"] + outcomes["unsuited"]
    dropped = outcomes["cancelled"] + outcomes["expired"]
    return [
        equal("items that wait", scrape.sum("queue_items"), 0),
        equal("items that failed", outcomes["failed"], 0),
        between("items answered, at least those of answers", outcomes["answered"], ledger.items, float("inf")),
        between("items in calls, of those that left", scrape.sum("batch_items_sum"), computed, computed + dropped),
        equal("calls observed = their sizes observed", scrape.sum("inference_seconds_count"), scrape.sum("batch_items_count")),
        equal("lanes busy", scrape.sum("lanes_busy"), 0),
        equal("jobs that failed", scrape.sum("jobs_ended_total", outcome="failed") + scrape.sum("jobs_ended_total", outcome="broken"), 0),
        equal("backbones broken", scrape.sum("model_state", state="broken"), 0),
    ]


def work(scrape, kinds):
    """What holds of waits, tokens, pixels and seconds: all that was computed waited once, and is what was decoded."""
    waits, calls = scrape.by("queue_wait_seconds_count", "model"), scrape.by("batch_items_count", "model")
    entered, costs = scrape.by("batch_items_sum", "model"), scrape.by("batch_cost_sum", "model")
    tokens, padded = scrape.by("tokens_total", "model"), scrape.by("padded_tokens_total", "model")
    left = scrape.by("items_total", "model")
    readers = {model for model, count in padded.items() if count} - {kinds.towers}
    pixels, seconds = scrape.by("pixels_total", "model"), scrape.by("audio_seconds_total", "model")
    return [
        equal("waits observed = items in calls", apart(waits, kinds.tensors), apart(entered, kinds.tensors)),
        between("waits of raw tensors, calls to rows", waits[kinds.tensors], calls[kinds.tensors], entered[kinds.tensors]),
        between("tokens, of those computed", sum(tokens.values()), 1, sum(padded.values())),
        equal("tokens computed = cost of calls", sum(padded[model] for model in readers), sum(costs[model] for model in readers)),
        between("the same of towers, whose pictures cost too", padded[kinds.towers], 1, costs[kinds.towers]),
        equal("pixels decoded = those of pictures", pixels[kinds.pictures], kinds.pixels * left[kinds.pictures]),
        between("pixels of towers, whose items may be texts", pixels[kinds.towers], kinds.pixels, kinds.pixels * left[kinds.towers]),
        equal("pixels of all others", apart(pixels, kinds.pictures, kinds.towers), 0),
        between("seconds of sounds", seconds[kinds.sounds], 1, kinds.longest_seconds * left[kinds.sounds]),
        equal("seconds of all others", apart(seconds, kinds.sounds), 0),
    ]


def looked_up(scrape, ledger, kinds):
    """What holds of caches: an item of a graph was looked for and not found, and what is kept was not found before."""
    hits, misses, kept = (scrape.by(f"cache_{what}", "cache") for what in ("hits_total", "misses_total", "entries"))
    items = apart(scrape.by("items_total", "model"), kinds.tensors, kinds.table)
    prepared = scrape.by("preprocess_seconds_count", "model")
    refused = sum(count for status, count in ledger.statuses.items() if 400 <= status < 500)
    # Labels are looked for twice: as what several texts make, and each of these texts.
    return [
        between("items of graphs, of what no cache had", items, 1, sum(misses.values())),
        between("vectors not found, which became items or were refused", misses["features"], 0, items + refused + ledger.left),
        *(between(f"{cache} kept, of those not found", kept[cache], 0, misses[cache]) for cache in sorted(kept)),
        between("pictures and sounds that are asked for again and found", hits["features"], 1, float("inf")),
        between("preparations, of look-ups", apart(prepared, kinds.tensors, kinds.table), 1, sum(hits.values()) + sum(misses.values())),
        between("preparations of pictures, at least their items", prepared[kinds.pictures], scrape.by("items_total", "model")[kinds.pictures], float("inf")),
        between("preparations of sounds, at least their items", prepared[kinds.sounds], scrape.by("items_total", "model")[kinds.sounds], float("inf")),
        between("preparations for the table, of its texts", prepared[kinds.table], 1, scrape.by("items_total", "model")[kinds.table]),
        equal("preparations of raw tensors", prepared[kinds.tensors], 0),
    ]


def apart(sums, *models):
    """The sum over all backbones but these."""
    return sum(count for model, count in sums.items() if model not in models)
