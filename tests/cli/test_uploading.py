"""`gossamer upload`: what would be sent is shown, and nothing is."""

import json

from typer.testing import CliRunner

from gossamer import bundled, cli

SET = str(bundled.path("spool") / "dictionaries")


def test_a_dry_run_shows_the_card_and_sends_nothing():
    # Nobody is logged in here and there is no network: a request would end in an error.
    done = CliRunner().invoke(cli.app, ["upload", SET, "me/x", "--license", "mit", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "license: mit" in done.stdout
    assert "resid_post.1/cfg.json" in done.stdout
    assert "nothing was sent" in done.stdout


def test_the_same_as_json():
    done = CliRunner().invoke(cli.app, ["upload", SET, "me/x", "--dry-run", "--json"])
    said = json.loads(done.stdout)
    assert (said["kind"], said["url"]) == ("dictionaries", None)
    assert "dictionaries.json" in said["files"]
