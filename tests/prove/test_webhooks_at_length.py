"""A server killed while a receiver answers: the end of the job is told again under the same id, once its lease is over."""

from receiver import receiving
from service import wait_until
from test_webhooks import SECRET, Jobs, arrived, unwrapped

# Within it nobody else tells what the dead server may have told.
LEASE_SECONDS = 30


def test_a_server_killed_between_an_answer_and_its_note_has_the_end_told_twice_as_one(start, tmp_path):
    servers = []

    def kill():
        servers[0]._process.kill()
        servers[0]._process.wait()
        return 200

    with receiving(kill) as receiver:
        variables = {"HEADSTART_WEBHOOK_HOSTS": receiver.host, "HEADSTART_WEBHOOK_SECRET": SECRET}
        servers.append(start("--webhook-url", receiver.url(), data=tmp_path, **variables))
        job = Jobs(servers[0]).queued()
        arrived(receiver)
        servers[0].wait()
        last = start("--webhook-url", receiver.url(), data=tmp_path, **variables)
        told = arrived(receiver, 2)
        assert [unwrapped(one).data.id for one in told] == [job, job]
        first, second = (headers for _, headers, _ in told)
        assert first["webhook-id"] == second["webhook-id"] and told[0][2] == told[1][2]
        assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) >= LEASE_SECONDS - 1
        wait_until(lambda: last.metric("webhooks_waiting") == 0, "it is noted")
        assert last.metric("webhook_attempts_total", outcome="delivered") == 1 and len(receiver.received) == 2
