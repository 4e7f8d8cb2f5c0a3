"""Feature maps as pictures: the most active channels, and both pictures of one on one scale."""

import torch

from engine.figures import feature_maps


def test_the_most_active_channels_and_one_scale_for_both_pictures_of_one() -> None:
    """Channel 1 is 0, 2, 4 and half of it is left: from 0 to 4 that is 0, 127, 255 above 0, 63, 127."""
    maps = torch.zeros(1, 8, 1, 3)
    maps[0, 1, 0] = torch.tensor([0.0, 2.0, 4.0])
    maps[0, 7, 0] = -1.0
    half = torch.nn.Module()
    half.forward = lambda inputs: inputs / 2  # type: ignore[method-assign]
    table = feature_maps.reconstructed(lambda inputs: (maps, inputs), half, torch.zeros(1))
    assert list(table.columns) == list(feature_maps.COLUMNS)
    assert table["channel"].tolist()[:4] == [1, 1, 7, 7]
    assert len(table) == 2 * feature_maps.CHANNELS
    pixels = [list(bytes.fromhex(text)) for text in table["pixels"][:2]]
    assert pixels == [[0, 127, 255], [0, 63, 127]]
    assert set(table["of"]) == {feature_maps.WHOLE, feature_maps.LEFT}
