"""Which tensors in a checkpoint are the net's, whatever training script wrapped them."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

# What torch.compile, FSDP and activation checkpointing put among the words of a key.
_WRAPPERS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# What thop, AveragedModel and batch norms count beside the weights.
_COUNTERS = {"total_ops", "total_params", "n_averaged", "num_batches_tracked"}
# Taken before others that fit as well: an average over training, and in MoCo's files the encoder
# that its authors probe.
_PREFERRED = re.compile(r"(^|[._])(ema|swa|base_encoder|encoder_q)([._]|$)", re.IGNORECASE)
# Dicts whose tensors have the names of the weights, but are none: an optimizer's moments, and what
# Lightning keeps beside an average.
_BESIDE = re.compile(r"optim(?!al)|current_model_state", re.IGNORECASE)
# Attributes under which trainers keep a net.
_HOLDERS = ("module.", "model.", "net.", "backbone.")


_Place = tuple[tuple[str, ...], str]


def find_state_dict(content: Any, expected: Collection[str]) -> dict[str, Tensor]:
    """Find the tensors of a net by name among all that a checkpoint holds.

    The net is where most of the expected names are found: in one of the dicts of tensors, at any
    depth, and perhaps after a prefix. What lies beside it there, such as a loss or a head, is
    left out. If hardly any of them is found, or none are expected, the names are those of other
    authors, which the net's library may know: one dict is returned, without what trainers put
    before most of its names and without the rest.

    None is a LookupError, and several that are alike are a ValueError.
    """
    dicts = dict(_dicts_of_tensors(content))
    places = Counter(
        (path, prefix)
        for path, tensors in dicts.items()
        for prefix in _prefixes_of_expected(tensors, expected)
    )
    n_wanted = len(expected)
    if 2 * max(places.values(), default=0) <= n_wanted:  # other names, or none are expected
        places = Counter(
            {(path, _holders(names, expected)): len(names) for path, names in dicts.items()}
        )
        n_wanted = max(places.values(), default=0)
    likely = [place for place, n in places.items() if 2 * n > n_wanted]
    path, prefix = _only([one for one in likely if _PREFERRED.search(_name(one))] or likely)
    found = {}
    for key, value in dicts[path].items():
        name = key.removeprefix(prefix)
        is_counter = expected and name not in expected and name.rpartition(".")[2] in _COUNTERS
        if key.startswith(prefix) and not is_counter:
            found[name] = value
    return found


def _dicts_of_tensors(
    content: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yield the dicts of tensors, and the keys that lead to them."""
    if not isinstance(content, Mapping) or len(path) > 3:
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {
        _WRAPPERS.sub("", key): value for key, value in named.items() if isinstance(value, Tensor)
    }
    if tensors:
        yield path, tensors
    for key, value in named.items():
        if not _BESIDE.search(key):
            yield from _dicts_of_tensors(value, (*path, key))


def _prefixes_of_expected(names: Iterable[str], expected: Collection[str]) -> Iterator[str]:
    """Yield what stands before an expected name, once for each of `names` that ends in one."""
    for name in names:
        words = name.split(".")
        for i in range(len(words)):
            if ".".join(words[i:]) in expected and words[-1] not in _COUNTERS:
                yield "".join(f"{word}." for word in words[:i])


def _holders(names: Collection[str], expected: Collection[str]) -> str:
    """Return what most names begin with, as far as trainers put it there.

    Where no names are expected, all must begin with it: there are nets whose own names have it.
    """
    found = ""
    for holder in _HOLDERS * 2:
        n = sum(name.startswith(found + holder) for name in names)
        if n == len(names) or (expected and 2 * n > len(names)):
            found += holder
    return found


def _name(place: _Place) -> str:
    return ".".join((*place[0], place[1])).strip(".")


def _only(places: Collection[_Place]) -> _Place:
    if not places:
        raise LookupError("it holds no state dict, that is, no dict of tensors by their names")
    (path, prefix), *others = places
    if not others:
        return path, prefix
    state = "torch.load(path)" + "".join(f"[{key!r}]" for key in path)
    if path in [other for other, _ in others]:
        state = f"{{k: v for k, v in {state}.items() if k.startswith({prefix!r})}}"
    raise ValueError(
        f"several would do, {', '.join(repr(_name(place)) for place in places)}. Save the one you "
        f"mean, such as torch.save({state}, 'weights.pth'), and take that file."
    )
