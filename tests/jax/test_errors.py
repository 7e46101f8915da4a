"""Every refusal: its class, and the words that say what to do."""

import pytest

pytest.importorskip("jax.numpy")

import functools
import threading

import jax
import jax.numpy as jnp
from tiny_models import INPUT, STACKED, UNROLLED, WEIGHTS, branching_on_value, unrolled_in

from gossamer.errors import UsageError
from gossamer.jax import at, capture, driver, errors, patch, run, sites, split, tag

TOP, SCAN = UNROLLED["top"], STACKED["scan"]
BRANCH = unrolled_in(branching_on_value)


def refuse(error, *words):
    assert issubclass(error, (UsageError, errors.GreenletMissing))
    return pytest.raises(error, match=".*".join(words))


def traced(function, *args):
    """Staged inside a trace: nothing is compiled."""
    return jax.eval_shape(function, *args)


def with_sites(model, body, **options):
    def function():
        with run(model, WEIGHTS, INPUT, **options) as r:
            for site in r:
                body(site)
        return r.result

    return traced(function)


def test_unknown_tag_names_the_closest():
    with refuse(errors.UnknownTag, "no tag 'g'", "The tags are: h"):
        traced(capture(TOP, {"g": None}), WEIGHTS, INPUT)
    with refuse(errors.UnknownTag, "Closest: residual"):
        traced(patch(lambda x: tag("residual", x), {"resid": lambda x: x}), INPUT)
    with refuse(errors.UnknownTag, "no tags at all", "gossamer.jax.tag"), run(jnp.sin, INPUT) as r:
        r.until("h")
    with refuse(errors.UnknownTag, "at the path 'x/y'", "gossamer.jax.sites"):
        traced(capture(TOP, {at("h", layers=0, path="x/y"): None}), WEIGHTS, INPUT)


def test_tag_not_reached_lists_the_order():
    model = lambda x: tag("b", tag("a", x))  # noqa: E731
    with run(model, INPUT) as r:
        r.until("b")
        with refuse(errors.TagNotReached, "'a' was not reached after", "passed 1 times", "a, b", "only goes forward"):
            r.until("a")


def test_an_unused_intervention_is_an_error():
    with (
        refuse(errors.UnusedIntervention, r"on\('other'\), on\('g'\)", "not peeled"),
        run(SCAN, WEIGHTS, INPUT, mode="live") as r,
    ):
        r.on("other", lambda site: None)
        r.on("h", lambda site: None)
        r.on("g", lambda site: None)


def test_a_patch_in_a_branch_that_is_not_taken_is_unused():
    model = lambda x: jax.lax.cond(False, lambda x: tag("h", x), lambda x: x, x)  # noqa: E731
    with refuse(errors.UnusedIntervention, r"patch at at\('h'\)"):
        patch(model, {"h": lambda x: x})(INPUT)
    with refuse(errors.UnusedIntervention, "capture of"):
        capture(model, ["h"])(INPUT)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (jnp.zeros((2, 3), jnp.bfloat16), ("float32", r"\[2, 3\]", "wrote bfloat16", ".astype")),
        (jnp.zeros(3), (r"float32\[2, 3\]", r"float32\[3\]", "broadcast")),
        (0.0, (r"float32\[\]", "broadcast")),
        ((jnp.zeros((2, 3)),), ("tree", "PyTreeDef")),
    ],
)
def test_a_write_of_another_type_is_refused(value, words):
    with refuse(errors.WriteMismatch, *words):
        with_sites(TOP, lambda site: site.set(value))
    with refuse(errors.WriteMismatch, *words):
        with_sites(SCAN, lambda site: site.edit(lambda _: value, layers=1))


def test_stacked_layers_need_their_numbers():
    for act in (lambda s: s.set(s.value), lambda s: s.edit(lambda h: h), lambda s: s.save()):
        with refuse(errors.NeedsLayer, "all 4 layers at once", "layers=", "peel="):
            with_sites(SCAN, act)
    with refuse(errors.NeedsLayer, "4 sites"):
        traced(patch(TOP, {"h": lambda h: h}), WEIGHTS, INPUT)


def test_a_python_if_on_a_stacked_layer_is_explained():
    def body(site):
        if site.layer == 2:
            site.set(site.value)

    with refuse(errors.NeedsLayer, "Python `if`", "site.layer", "peel="):
        with_sites(SCAN, body)
    with refuse(errors.NeedsLayer, "Python `if`"), run(SCAN, WEIGHTS, INPUT) as r:
        r.on("h", body)


@pytest.mark.parametrize("layers", [4, -5, [0, 7]])
def test_a_layer_out_of_range(layers):
    with refuse(errors.LayerOutOfRange, "4 stacked layers, 0 to 3"):
        with_sites(SCAN, lambda site: site.edit(lambda h: h, layers=layers))
    with refuse(errors.LayerOutOfRange, "layer"):
        traced(patch(TOP, {at("h", layers=layers): lambda h: h}), WEIGHTS, INPUT)


def test_a_peeled_layer_out_of_range():
    with refuse(errors.LayerOutOfRange, "layer 9"):
        with_sites(SCAN, lambda site: None, peel=[9])


@pytest.mark.parametrize("layers", ["some", [], [1, 1], 1.5])
def test_layers_that_make_no_sense(layers):
    with refuse(errors.InstrumentError, "layer"):
        with_sites(SCAN, lambda site: site.save(layers=layers))


def test_a_handle_before_its_scope_has_ended():
    with refuse(errors.ScopedValue, "saved at 'h' in scan", "after the `with"):
        with_sites(SCAN, lambda site: site.save(layers=1).value)


def test_a_branch_can_be_written_and_not_read():
    for act in (lambda s: s.value, lambda s: s.save()):
        with refuse(errors.Unsupported, "one branch only", "edit"):
            with_sites(BRANCH, act)


def test_a_tag_that_the_model_differentiates_is_read_only():
    model = lambda x: jax.grad(lambda x: jnp.sum(tag("h", x**3)))(x)  # noqa: E731
    with run(model, INPUT) as r:
        for site in r:
            assert jnp.array_equal(site.value, INPUT**3)
            with refuse(errors.Unsupported, "differentiates itself", "derivative"):
                site.set(site.value)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) < 9, lambda x: tag("h", x + 1), x), "while"),
        (lambda x: jax.custom_jvp(lambda x: tag("h", x))(x), "custom_jvp_call"),
        (lambda x: jax.custom_vjp(lambda x: tag("h", x))(x), "custom_vjp_call"),
    ],
)
def test_tags_in_what_cannot_be_opened(model, kind):
    def looped(x):
        with run(model, x) as r:
            for _ in r:
                pass

    if kind.startswith("custom"):
        rule = jax.custom_jvp(lambda x: tag("h", x)) if "jvp" in kind else jax.custom_vjp(lambda x: tag("h", x))
        if "jvp" in kind:
            rule.defjvp(lambda x, t: (x[0], t[0]))
        else:
            rule.defvjp(lambda x: (x, None), lambda _, g: (g,))
        model = rule
    with refuse(errors.Unsupported, f"inside {kind}", "h", "capture and patch only open"):
        traced(looped, INPUT)
    both = lambda x: tag("outer", model(x))  # noqa: E731
    traced(capture(both, ["outer"]), INPUT)


def test_a_model_that_needs_concrete_values():
    with refuse(errors.NeedsLive, "concrete value", "mode='live'"):
        traced(capture(lambda x: tag("h", x) if jnp.sum(x) > 0 else x, ["h"]), INPUT)


def test_a_run_of_another_thread():
    with run(TOP, WEIGHTS, INPUT) as r:
        next(r)
        caught = []

        def resume():
            try:
                next(r)
            except errors.ConcurrentRun as error:
                caught.append(str(error))

        thread = threading.Thread(target=resume)
        thread.start()
        thread.join()
    assert "another thread" in caught[0]


def test_misused_runs():
    with refuse(errors.InstrumentError, "in a `with`"):
        run(TOP, WEIGHTS, INPUT).until("h")
    with run(TOP, WEIGHTS, INPUT) as r:
        pass
    with refuse(errors.InstrumentError, "has ended"):
        next(r)
    with refuse(errors.InstrumentError, "used once"), r:
        pass
    with refuse(errors.InstrumentError, "traced layer as the value"):
        traced(lambda layer: capture(SCAN, {at("h", layers=layer): None})(WEIGHTS, INPUT), 1)
    with refuse(errors.InstrumentError, "staged"):
        run(TOP, WEIGHTS, INPUT, mode="fast")
    with refuse(errors.RunNotFinished, "zip"), run(TOP, WEIGHTS, INPUT) as r:
        next(r)
        r.result  # noqa: B018


def test_splits_that_are_not_one_site():
    with refuse(errors.InstrumentError, "give the layer"):
        traced(lambda: split(SCAN, "h")(WEIGHTS, INPUT)[0])
    with refuse(errors.InstrumentError, "one site is needed"):
        traced(lambda: split(TOP, at("h", layers=[0, 1]))(WEIGHTS, INPUT)[0])
    with refuse(errors.Unsupported, "a traced layer"):
        traced(lambda layer: split(SCAN, at("h", layers=layer))(WEIGHTS, INPUT)[0], 1)
    with refuse(errors.Unsupported, "inside a cond"):
        traced(lambda: split(BRANCH, at("h", layers=1))(WEIGHTS, INPUT)[0])
    with refuse(errors.WriteMismatch, "continuation takes", r"float32\[2,3\]"):
        split(TOP, at("h", layers=1))(WEIGHTS, INPUT)[1](jnp.zeros(3))


def test_a_tag_in_several_scans_needs_its_path():
    twice = lambda w, x: SCAN(w, SCAN(w, x))  # noqa: E731
    with refuse(errors.InstrumentError, "several places", "path="):
        traced(capture(twice, {"h": 0}), WEIGHTS, INPUT)


def test_a_traced_layer_of_unrolled_layers_is_not_captured():
    with refuse(errors.Unsupported, "unrolled layers", "scan"):
        traced(lambda layer: capture(TOP, {"h": layer})(WEIGHTS, INPUT), 1)


def test_a_tag_needs_a_name():
    with pytest.raises(TypeError, match="a tag needs a name"):
        tag("", INPUT)


def test_a_keyword_of_the_run_that_the_model_has_too():
    model = lambda x, *, peel=0, mode="train", checkpoint_names=None: tag("h", x * (1 + peel))  # noqa: E731
    for given in ({"peel": 2}, {"peel": [1]}, {"mode": "live"}, {"checkpoint_names": True}):
        with refuse(
            errors.InstrumentError, f"{next(iter(given))}= is an argument of the run and of", "functools.partial"
        ):
            run(model, INPUT, **given)
    with refuse(errors.InstrumentError, "checkpoint_names= is an argument"):
        sites(model, INPUT, checkpoint_names=True)
    for mode in ("staged", "live"):
        with run(functools.partial(model, peel=2, mode="eval"), INPUT, mode=mode) as r:
            r.until("h").edit(lambda h: h + 1)
        assert jnp.array_equal(r.result, 3 * INPUT + 1)
    assert jnp.array_equal(patch(model, {"h": lambda h: h + 1})(INPUT, peel=2), 3 * INPUT + 1)


def stops(_):
    raise StopIteration


@pytest.mark.parametrize("mode", ["staged", "live"])
@pytest.mark.parametrize("model", [TOP, UNROLLED["remat"], SCAN])
def test_a_stop_iteration_does_not_end_the_loop_unseen(model, mode):
    said = "raised StopIteration, which would end the loop over sites as if the model had run to its end"
    if mode == "staged":
        with refuse(errors.InstrumentError, said):
            traced(patch(model, {at("h", layers=1): stops}), WEIGHTS, INPUT)
    for form in ("loop", "callback"):
        visited = []
        with refuse(errors.InstrumentError, said), run(model, WEIGHTS, INPUT, mode=mode) as r:
            r.on("h", stops)
            if form == "loop":
                visited.extend(r)
        assert not visited
    with refuse(errors.InstrumentError, said), run(lambda x: stops(tag("h", x)), INPUT, mode="live") as r:
        visited.extend(site.name for site in r)
    assert visited == ["h"]


def test_without_greenlet_the_callback_form_remains(monkeypatch):
    monkeypatch.setattr(driver, "greenlet", None)
    assert capture(TOP, {"h": 1})(WEIGHTS, INPUT)[1]["h"].shape == INPUT.shape
    with refuse(errors.GreenletMissing, "pip install greenlet", "r.on"), run(TOP, WEIGHTS, INPUT) as r:
        next(r)


def test_every_error_has_a_paragraph_in_the_docs():
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "jax.md").read_text()
    classes = [
        name for name, one in vars(errors).items() if isinstance(one, type) and one.__module__ == errors.__name__
    ]
    assert len(classes) > 15
    assert [name for name in classes if f"**`{name}`**" not in page] == []
