import pytest
import torch

from fl_runtime.models import Logistic, Mlp, SmallCnn, build
from fl_runtime.trainer import Trainer
from secagg.errors import Refused


@pytest.mark.parametrize("model", [Logistic(), Mlp(hidden=(5, 4)), SmallCnn()])
@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 10, 11)])
@pytest.mark.parametrize(("classes", "outputs"), [(2, 1), (7, 7)])
def test_output_shape(model, shape, classes, outputs):
    assert build(model, shape=shape, classes=classes, seed=0)(torch.zeros(3, *shape)).shape == (3, outputs)


def test_layers_are_as_asked():
    widths = [layer.out_features for layer in build(Mlp(hidden=(9, 5)), shape=(4,), classes=3, seed=0)[1::2]]
    assert widths == [9, 5, 3]
    assert sum(p.numel() for p in build(Logistic(), shape=(13,), classes=2, seed=0).parameters()) == 14


def test_initialisation_is_the_seed_and_leaves_the_global_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (build(Mlp(), shape=(4,), classes=3, seed=seed)[1].weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_logistic_starts_where_torch_does():
    """FLamby's baseline is `torch.manual_seed(seed); nn.Linear(13, 1)`."""
    with torch.random.fork_rng():
        torch.manual_seed(42)
        expected = torch.nn.Linear(13, 1).weight
    assert torch.equal(build(Logistic(), shape=(13,), classes=2, seed=42)[1].weight, expected)


def test_no_model_keeps_statistics_of_its_data():
    for model in (Logistic(), Mlp(), SmallCnn(channels=(6, 7))):
        Trainer(build(model, shape=(1, 8, 8), classes=2, seed=0))


@pytest.mark.parametrize("shape", [(30,), (1, 3, 8)])
def test_small_cnn_refuses_what_is_no_image(shape):
    with pytest.raises(Refused, match=r"small_cnn.*4x4"):
        build(SmallCnn(), shape=shape, classes=2, seed=0)


def test_one_class_is_refused():
    with pytest.raises(Refused, match=r"at least 2 classes"):
        build(Logistic(), shape=(3,), classes=1, seed=0)
