"""``localfusion keys`` and a server that other machines could reach."""

import json
import signal
import urllib.error
import urllib.request

import pytest

from tests.cli.conftest import Place


def get(place: Place, path: str, key: str = "") -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{place.port}{path}")
    if key:
        request.add_header("authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_keys_are_made_listed_and_revoked(place: Place) -> None:
    made = place.run("keys", "create", "ann", "--scope", "admin")
    listed = place.run("keys", "list", "--json")
    shown = place.run("keys", "list")
    again = place.run("keys", "create", "ann")
    revoked = place.run("keys", "revoke", "ann")
    unknown = place.run("keys", "revoke", "ann")

    assert made.stdout.startswith("lf-")
    (key,) = json.loads(listed.stdout)
    assert (key["name"], key["scope"], set(key)) == ("ann", "admin", {"name", "scope", "created"})
    assert "ann" in shown.stdout
    assert again.returncode == 2
    assert "there is a key ann already" in again.stderr
    assert revoked.returncode == 0
    assert unknown.returncode == 2


@pytest.mark.threat(13)
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--host", "0.0.0.0"), "allow_remote"),
        (("--host", "::"), "allow_remote"),
        (("--host", "example.org"), "IP address"),
        (("--host", "0.0.0.0", "--allow-remote"), "keys create"),
    ],
)
def test_other_machines_are_let_in_by_key_and_wish_alone(
    place: Place, arguments: tuple[str, ...], told: str
) -> None:
    done = place.run("serve", "--sim", *arguments)

    assert done.returncode == 2
    assert told in done.stderr


def test_commands_of_this_user_reach_a_server_that_needs_keys(place: Place) -> None:
    key = place.run("keys", "create", "ann").stdout.strip()
    server = place.start("serve", "--sim", "--host", "0.0.0.0", "--allow-remote", "--access-log")
    try:
        assert server.stderr is not None
        begun = []
        for line in server.stderr:
            begun.append(line)
            if line.startswith("note: "):
                break
        statuses = [get(place, "/v1/models"), get(place, "/v1/models", key)]
        listed = place.run("ps", "--json")
        asked = place.run("ask", "How many?")
    finally:
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=60)

    assert statuses == [401, 200]
    assert listed.returncode == 0, listed.stderr
    assert asked.returncode == 0, asked.stderr
    assert key not in said
    assert "other machines call by names in server.hosts" in "".join(begun)
    logged = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert {"ann", "local", None} >= {line["key"] for line in logged} > {"local"}
    assert not list(place.root.glob("s/server-*.key"))
