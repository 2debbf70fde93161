import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from container import small_maps, torch_resnet
from container.images import Preprocessing
from container.model import normalise
from container.small_maps import SmallMapConvolution

CLASSES = 3


def built(architecture: str) -> tuple[nn.Module, nn.Module]:
    """Ours and torchvision's, both drawn from one seed, in the memory layout of a training."""
    torch.manual_seed(0)
    ours = torch_resnet.build(architecture, CLASSES)
    torch.manual_seed(0)
    theirs = get_model(architecture, weights=None, num_classes=CLASSES)
    return (
        ours.to(memory_format=torch.channels_last),
        theirs.to(memory_format=torch.channels_last),
    )


def step(network: nn.Module, images: Tensor, *, bfloat16: bool) -> Tensor:
    """The logits of a training step; gradients stay with the weights."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits: Tensor = network(images)
    loss = nn.functional.cross_entropy(logits.float(), torch.arange(len(images)) % CLASSES)
    loss.backward()  # type: ignore[no-untyped-call]
    return logits


@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_a_step_gives_the_numbers_of_torchvisions_network(
    architecture: str, bfloat16: bool
) -> None:
    ours, theirs = built(architecture)
    images = torch.randn(4, 3, 64, 64).to(memory_format=torch.channels_last)
    assert torch.equal(
        step(ours, images, bfloat16=bfloat16), step(theirs, images, bfloat16=bfloat16)
    )
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        gradient, other = parameter.grad, expected[name].grad
        assert gradient is not None
        assert other is not None
        if bfloat16 and name.startswith("layer4.") and parameter.shape[2:] == (3, 3):
            # One product adds up in another order what is then rounded to 8 bits.
            assert (gradient - other).abs().max() <= 2**-7 * other.abs().max(), name
        else:
            assert torch.equal(gradient, other), name
    statistics = theirs.state_dict()
    assert list(ours.state_dict()) == list(statistics)
    assert all(torch.equal(tensor, statistics[name]) for name, tensor in ours.state_dict().items())


def test_hooks_see_modules_of_torchvisions_names() -> None:
    ours, theirs = built("resnet50")
    assert [name for name, _ in ours.named_modules()] == [
        name for name, _ in theirs.named_modules()
    ]


def test_images_are_normalised_as_torchvision_does_it() -> None:
    images = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    mean, std = (torch.tensor(v)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    expected = (images.permute(0, 3, 1, 2) / 255 - mean) / std
    inputs = normalise(images, preprocessing)
    assert torch.allclose(inputs, expected, atol=1e-5)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (7, 7), (6, 4)])
def test_a_convolution_of_small_maps_has_the_gradients_of_any_other(
    height: int, width: int, stride: int
) -> None:
    torch.manual_seed(0)
    ours = SmallMapConvolution.of(nn.Conv2d(16, 24, 3, stride, padding=1, bias=False))
    # In float32: for maps of one position oneDNN's own in bfloat16 leaves weights' gradients unset.
    exact = nn.Conv2d(16, 24, 3, stride, padding=1, bias=False)
    exact.weight.data = ours.weight.detach().bfloat16().float()
    maps = torch.randn(3, 16, height, width).bfloat16()
    found = []
    for convolution, kind in ((ours, torch.bfloat16), (exact, torch.float32)):
        given = maps.to(kind, copy=True).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=convolution is ours):
            outputs = convolution(given)
        weights = torch.linspace(-1, 1, outputs.numel()).bfloat16().view_as(outputs)
        (outputs.float() * weights.float()).sum().backward()
        found.append((outputs, given.grad, convolution.weight.grad))
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        assert (one - other).abs().max() <= 2**-7 * other.abs().max()


@pytest.mark.parametrize("size", [7, 8])
def test_only_small_maps_in_bfloat16_that_are_trained_take_the_product(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def take(maps: Tensor, *_: object) -> Tensor:
        taken.append(maps)
        return maps

    monkeypatch.setattr(small_maps._Convolution, "apply", take)
    convolution = SmallMapConvolution.of(nn.Conv2d(4, 4, 3, padding=1, bias=False))
    maps = torch.randn(2, 4, size, size)
    convolution(maps)
    with torch.autocast("cpu", torch.bfloat16):
        convolution(maps)
        with torch.no_grad():
            convolution(maps)
    assert len(taken) == (1 if size == 7 else 0)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_from_scratch_a_block_hands_on_what_it_is_given_and_all_weights_have_gradients(
    architecture: str,
) -> None:
    torch.manual_seed(0)
    network = torch_resnet.build(architecture, CLASSES, from_scratch=True)
    given = torch.randn(4, network.layer3[0].conv1.in_channels, 8, 8)
    block = network.layer3[1]  # one that changes neither channels nor size
    given = network.layer3[0](given).detach()
    assert 0 < (block(given) - given).norm() < 0.5 * given.norm()
    step(network, torch.randn(4, 3, 64, 64), bfloat16=False)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0, name
