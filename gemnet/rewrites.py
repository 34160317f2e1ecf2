"""Rewrites of a traced network without batch norms; each changes the graph in place and keeps its outputs.

A map is a node's value [N, C, H, W]. `torch.fx` calls an operation's inputs its args and its readers its users.
"""

import copy
import operator
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import fx, nn

CHANNELWISE = (nn.ReLU, nn.MaxPool2d, nn.ReplicationPad2d)  # besides depthwise convolutions


def drop_identities(module: fx.GraphModule) -> None:
    """Removes what does nothing in eval mode."""
    for node in list(module.graph.nodes):
        if isinstance(_layer(module, node), (nn.Identity, nn.Dropout)):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def drop_zeros(module: fx.GraphModule) -> None:
    """Leaves out of sums the maps that are zero whatever the image is."""
    zeros: set[fx.Node] = set()
    for node in list(module.graph.nodes):
        if _is_zero(module, node, zeros):
            zeros.add(node)
        elif _is_sum(node):
            kept = [term for term in node.args if term not in zeros]
            if len(kept) == 1:
                node.replace_all_uses_with(kept[0])


def share_sums(module: fx.GraphModule) -> None:
    """Computes a pair of maps that several sums have in common once, the most common pair first."""
    sums = {node: _terms(node) for node in module.graph.nodes if _is_sum(node) and not _is_inner(node)}
    sums = {node: terms for node, terms in sums.items() if len(set(terms)) == len(terms)}
    while True:
        counts = Counter(frozenset(pair) for terms in sums.values() for pair in combinations(terms, 2))
        pair, count = next(iter(counts.most_common(1)), (frozenset(), 0))
        if count < 2:
            break
        first, second = sorted(pair, key=list(module.graph.nodes).index)
        with module.graph.inserting_after(second):
            shared = module.graph.call_function(operator.add, (first, second))
        for terms in sums.values():
            if pair <= set(terms):
                terms[terms.index(first)] = shared
                terms.remove(second)
    changed = [(node, terms) for node, terms in sums.items() if terms != _terms(node)]
    for node, terms in changed:
        with module.graph.inserting_before(node):
            node.replace_all_uses_with(_add_up(module.graph, terms))
    module.graph.eliminate_dead_code()


def split_concat(module: fx.GraphModule) -> None:
    """Turns a 1x1 convolution of concatenated maps, directly or through channelwise layers, into a sum."""
    waiting = [node for node in module.graph.nodes if node.target is torch.cat]
    while waiting:
        cat = waiting.pop(0)
        parts = list(cat.args[0])
        widths = [_width(module, part) for part in parts]
        for node in list(cat.users):
            layer = _layer(module, node)
            with module.graph.inserting_before(node):
                if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1:
                    layers: list[nn.Module] = list(_cut_inputs(layer, widths))
                    new = _add_up(module.graph, _call_each(module, node, layers, parts))
                elif layer is not None and _is_channelwise(layer):
                    layers = list(_cut(layer, widths)) if isinstance(layer, nn.Conv2d) else [layer] * len(parts)
                    new = module.graph.call_function(torch.cat, (_call_each(module, node, layers, parts), 1))
                    waiting.append(new)
                else:
                    continue
            node.replace_all_uses_with(new)
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()


def merge_siblings(module: fx.GraphModule, depthwise: bool) -> None:
    """Makes one convolution of all 1x1 (or all depthwise) ones of the same map and splits its output."""
    groups: dict[tuple[object, ...], list[fx.Node]] = defaultdict(list)
    for node in module.graph.nodes:
        layer = _layer(module, node)
        if isinstance(layer, nn.Conv2d) and (_is_depthwise(layer) if depthwise else _is_pointwise(layer)):
            form = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.bias is None)
            groups[node.args[0], form].append(node)
    for nodes in groups.values():
        if len(nodes) > 1:
            _merge(module, nodes, len(nodes) if depthwise else 1)


def _merge(module: fx.GraphModule, nodes: Sequence[fx.Node], copies: int) -> None:
    """Replaces convolutions of one map by one of `copies` of it, one behind the other."""
    layers = [module.get_submodule(str(node.target)) for node in nodes]
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    biases = [conv.bias for conv in convs if conv.bias is not None]
    wide = _conv_like(convs[0], torch.cat([conv.weight for conv in convs]), torch.cat(biases) if biases else None)
    name = f"{nodes[0].target}_merged"
    module.add_submodule(name, wide)
    graph, source = module.graph, nodes[0].args[0]
    with graph.inserting_before(nodes[0]):
        if copies > 1:
            source = graph.call_function(torch.cat, ([source] * copies, 1))
        merged = graph.call_module(name, (source,))
        pieces = graph.call_function(torch.split, (merged, [conv.out_channels for conv in convs], 1))
        parts = [graph.call_function(operator.getitem, (pieces, k)) for k in range(len(nodes))]
    for node, part in zip(nodes, parts):
        for user in node.users:  # autograd forbids changing a piece of a split in place
            layer = _layer(module, user)
            if isinstance(layer, nn.Module) and hasattr(layer, "inplace"):
                layer.inplace = False  # type: ignore[assignment]
        node.replace_all_uses_with(part)
        graph.erase_node(node)


def _layer(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _is_sum(node: fx.Node) -> bool:
    return node.target is operator.add and all(isinstance(arg, fx.Node) for arg in node.args)


def _is_inner(node: fx.Node) -> bool:
    """Whether a sum is no more than a term of another one."""
    return len(node.users) == 1 and _is_sum(next(iter(node.users)))


def _is_pointwise(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and conv.groups == 1


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1


def _is_channelwise(layer: nn.Module) -> bool:
    return isinstance(layer, CHANNELWISE) or (isinstance(layer, nn.Conv2d) and _is_depthwise(layer))


def _is_zero(module: fx.GraphModule, node: fx.Node, zeros: set[fx.Node]) -> bool:
    if _is_sum(node):
        return all(term in zeros for term in node.args)
    layer = _layer(module, node)
    if isinstance(layer, nn.Conv2d):
        silent = not layer.weight.any() or node.args[0] in zeros
        return bool(silent and (layer.bias is None or not layer.bias.any()))
    if isinstance(layer, nn.ReLU):
        before = node.args[0]
        conv = _layer(module, before) if isinstance(before, fx.Node) else None
        if isinstance(conv, nn.Conv2d) and conv.bias is not None and not conv.weight.any():
            return bool((conv.bias <= 0).all())
    return isinstance(layer, CHANNELWISE) and node.args[0] in zeros


def _terms(node: fx.Node) -> list[fx.Node]:
    terms: list[fx.Node] = []
    for arg in node.args:
        assert isinstance(arg, fx.Node)
        terms += _terms(arg) if _is_sum(arg) and _is_inner(arg) else [arg]
    return terms


def _add_up(graph: fx.Graph, terms: Sequence[fx.Node]) -> fx.Node:
    total = terms[0]
    for term in terms[1:]:
        total = graph.call_function(operator.add, (total, term))
    return total


def _call_each(
    module: fx.GraphModule, node: fx.Node, layers: Sequence[nn.Module], parts: Sequence[fx.Node]
) -> list[fx.Node]:
    calls = []
    for k, (layer, part) in enumerate(zip(layers, parts)):
        name = f"{node.target}_{k}"
        module.add_submodule(name, layer)
        calls.append(module.graph.call_module(name, (part,)))
    return calls


def _cut_inputs(conv: nn.Conv2d, widths: Sequence[int]) -> list[nn.Conv2d]:
    """The parts of a 1x1 convolution that read successive input channels; the first has the bias."""
    weights = torch.split(conv.weight, list(widths), 1)
    return [_conv_like(conv, weight, conv.bias if k == 0 else None) for k, weight in enumerate(weights)]


def _cut(conv: nn.Conv2d, widths: Sequence[int]) -> list[nn.Conv2d]:
    """The parts of a depthwise convolution."""
    weights = torch.split(conv.weight, list(widths))
    biases = torch.split(conv.bias, list(widths)) if conv.bias is not None else [None] * len(widths)
    return [_conv_like(conv, weight, bias) for weight, bias in zip(weights, biases)]


def _conv_like(conv: nn.Conv2d, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Conv2d:
    """A convolution with other weights; depthwise when the given one is."""
    new = copy.copy(conv)  # shares no parameters with the given one once they are set
    new._parameters = {}
    new.groups = weight.shape[0] if _is_depthwise(conv) else 1
    new.in_channels, new.out_channels = weight.shape[1] * new.groups, weight.shape[0]
    new.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    cloned = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
    new.register_parameter("bias", cloned)
    return new


def _width(module: fx.GraphModule, node: fx.Node) -> int:
    """Channels of a map."""
    if node.target is torch.cat:
        return sum(_width(module, part) for part in node.all_input_nodes)
    layer = _layer(module, node)
    return layer.out_channels if isinstance(layer, nn.Conv2d) else _width(module, node.all_input_nodes[0])
