import subprocess
import sys

import pytest
from pydantic import ValidationError

from fl_runtime.algorithms import FedProx
from fl_runtime.config import load
from fl_runtime.models import SmallCnn
from secagg.errors import Refused

TEXT = """
[experiment]
name = "digits-demo"
rounds = 15
seed = 42
[data]
dataset = "digits"
partition = "dirichlet"
alpha = 0.3
clients = 8
[model]
name = "small_cnn"
channels = [16, 32]
[algorithm]
name = "fedprox"
mu = 0.01
[training]
local_epochs = 3
batch_size = 16
lr = 0.05
momentum = 0.5
[privacy]
backend = "ckks"
key_mode = "holder"
"""
HEART = ["data.dataset=heart_disease", "data.partition=natural", "data.clients=4"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def heart(tmp_path):
    path = tmp_path / "heart.toml"
    path.write_text(TEXT.replace("alpha = 0.3\n", ""))
    return path


def test_a_whole_file(file):
    experiment = load(file)
    assert experiment.experiment.rounds == 15
    assert experiment.model == SmallCnn(channels=(16, 32))
    assert experiment.algorithm == FedProx(mu=0.01)
    assert experiment.data.arguments == {"alpha": 0.3}
    assert experiment.data.count == 8
    assert experiment.data_path is None
    assert experiment.privacy.parameters == {"key_mode": "holder"}
    privacy = experiment.privacy
    assert (privacy.value_bound, privacy.max_weight, privacy.modulus_bits) == (1.0, None, 32)
    assert privacy.minimum_cohort == 3
    assert experiment.engine.name == "local"
    with pytest.raises(ValidationError, match=r"frozen"):
        experiment.training.lr = 1.0


def test_overrides_are_toml_values_or_bare_strings(file):
    experiment = load(
        file,
        [
            "training.lr=0.1",
            "privacy.backend=smpc",
            'experiment.name="x"',
            "model.channels=[4, 8]",
            "privacy.shared=true",
        ],
    )
    assert experiment.training.lr == 0.1
    assert (experiment.privacy.backend, experiment.experiment.name) == ("smpc", "x")
    assert experiment.model.channels == (4, 8)
    assert experiment.privacy.parameters == {"key_mode": "holder", "shared": True}
    assert load(file, ["training.lr=1", "training.lr=2"]).training.lr == 2


def test_an_override_may_make_a_section(file):
    file.write_text(TEXT.partition("[privacy]")[0])
    assert load(file).privacy.backend == "plain"
    assert load(file, ["privacy.backend=ckks"]).privacy.backend == "ckks"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.lrr=1", "--set training.lrr: unknown key (did you mean 'lr'?)"),
        ("training.lr=fast", "--set training.lr: should be a valid number, got 'fast'"),
        ("training.lr=-1", "--set training.lr: should be greater than 0, got -1"),
        ("training.lr=nan", "--set training.lr: should be a finite number, got nan"),
        ("training.lr", "--set training.lr: expected section.key=value"),
        ("training=1", "--set training=1: expected section.key=value"),
        ("experiment.rounds=true", "--set experiment.rounds: should be a valid integer, got True"),
        ("experiment.rounds='5'", "--set experiment.rounds: should be a valid integer, got '5'"),
        ("model.name=mpl", "--set model.name: unknown name 'mpl' (did you mean 'mlp'?)"),
        ("model.chanels=[1]", "--set model.chanels: unknown key (did you mean 'channels'?)"),
        ("algorithm.name=fedporx", "--set algorithm.name: unknown name 'fedporx' (did you mean 'fedprox'?)"),
        ("algorithm.mu=-1", "--set algorithm.mu: should be greater than or equal to 0, got -1"),
        ("data.dataset=digit", "--set data.dataset: unknown data set 'digit' (did you mean 'digits'?)"),
        ("data.partition=dirichle", "--set data.partition: unknown partition 'dirichle' (did you mean 'dirichlet'?)"),
        ("data.majority=0.9", "--set data.majority: partition 'dirichlet' takes no 'majority'"),
        ("data.path=x", "--set data.path: data set 'digits' takes no path"),
        ("data.clients=2", "--set data.clients: expected at least privacy.minimum_cohort = 3, got 2"),
        ("privacy.minimum_cohort=2", "--set privacy.minimum_cohort: should be greater than or equal to 3, got 2"),
        (
            "algorithm.clients_per_round=2",
            "--set algorithm.clients_per_round: expected 3 (privacy.minimum_cohort) to 8 (data.clients), got 2",
        ),
        ("engine.name=flwr", "--set engine.name: should be 'local', got 'flwr'"),
        ("privacy.noise=inf", "--set privacy.noise: expected a string, a finite number, true or false"),
        ("experiment.rounds.x=3", "--set experiment.rounds.x: 'rounds' is not a section"),
        ("training.lr=1\nmomentum=2", "--set training.lr: expected one value"),
    ],
)
def test_a_bad_override_is_one_line(file, override, says):
    with pytest.raises(Refused) as refusal:
        load(file, [override])
    line = str(refusal.value)
    assert line.removeprefix(f"{file}: ") == says
    assert "\n" not in line


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("lr = 0.05", "learning_rate = 0.05", "training.learning_rate: unknown key"),
        ("mu = 0.01", "", "algorithm.mu: required, and not given"),
        ("rounds = 15", "", "experiment.rounds: required, and not given"),
        ('name = "fedprox"', "", "algorithm.name: required, and not given"),
        ("alpha = 0.3", "", "data.alpha: required by partition 'dirichlet', and not given"),
        ("clients = 8", "", "data.clients: required by partition 'dirichlet', and not given"),
        ("local_epochs = 3", "", "training: set exactly one of local_epochs and local_steps"),
        ("local_epochs = 3", "local_epochs = 3\nlocal_steps = 3", "training: set exactly one of"),
        ("lr = 0.05", 'lr = 0.05\noptimizer = "adam"', "training: momentum belongs to optimizer 'sgd'"),
        ("[model]", "[modle]", "modle: unknown key (did you mean 'model'?)"),
        ("rounds = 15", "rounds = = 15", "not valid TOML: Invalid value (at line 4, column 10)"),
        ('name = "digits-demo"', 'name = "../up"', "experiment.name: string should match pattern"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_file_key_and_reason(file, old, new, says):
    file.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(Refused) as refusal:
        load(file)
    assert str(refusal.value).startswith(f"{file}: {says}")
    assert "\n" not in str(refusal.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(Refused, match=r"nowhere\.toml: no such file"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(Refused, match=r"cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match=r"not UTF-8 at byte 0"):
        load(tmp_path / "binary.toml")


def test_paths_start_at_the_file_or_at_secagg_data(heart, tmp_path, monkeypatch):
    monkeypatch.delenv("SECAGG_DATA", raising=False)
    assert load(heart, [*HEART, "data.path=hospitals"]).data_path == tmp_path / "hospitals"
    assert str(load(heart, [*HEART, "data.path=/elsewhere/h"]).data_path) == "/elsewhere/h"
    with pytest.raises(Refused, match=r"data.path: the environment variable SECAGG_DATA is not set"):
        load(heart, [*HEART, "data.path=$SECAGG_DATA/h"])
    with pytest.raises(Refused, match=r"data.path: \$HOME is not filled in"):
        load(heart, [*HEART, "data.path=$HOME/h"])
    monkeypatch.setenv("SECAGG_DATA", "/data")
    for written in ("$SECAGG_DATA/h", "${SECAGG_DATA}/h"):
        assert str(load(heart, [*HEART, f"data.path={written}"]).data_path) == "/data/h"


def test_natural_clients_are_the_sites(heart):
    path = "data.path=x"
    assert load(heart, [*HEART, path]).data.count == 4
    with pytest.raises(Refused, match=r"data.clients: expected 4, the sites of 'heart_disease'"):
        load(heart, [*HEART, path, "data.clients=5"])
    with pytest.raises(Refused, match=r"data.partition: data set 'digits' has no natural sites"):
        load(heart, ["data.partition=natural"])
    with pytest.raises(Refused, match=r"data.path: required by data set 'heart_disease'"):
        load(heart, HEART)


def test_digest_binds_every_setting_and_nothing_else(file, tmp_path):
    base = load(file).digest()
    changes = [
        "training.lr=0.06",
        "algorithm.mu=0.02",
        "privacy.key_mode=shared",
        "privacy.extra=1",
        "experiment.seed=1",
    ]
    assert len({load(file, [change]).digest() for change in changes} | {base}) == len(changes) + 1
    other = tmp_path / "other.toml"
    other.write_text("# the same, written otherwise\n" + TEXT + "\n[engine]\nname = 'local'\n")
    assert load(other).digest() == base == load(file, ["training.lr=5e-2"]).digest()


def test_reading_an_experiment_loads_no_heavy_library():
    code = "import sys, fl_runtime.config; sys.exit(any(m in sys.modules for m in ('torch', 'sklearn', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
