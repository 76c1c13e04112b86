"""Models and machines for tests of placement, and strategies for any of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from localfusion.hardware import Cpu, Gpu, Hardware
from localfusion.memory import Architecture, Layers
from localfusion.placement import ALL_STEPS, GIB, ModelNeed, PresetNeed

SMALL_CPU = Hardware(Cpu(cores=(0, 1), free_bytes=22 * GIB, has_bf16=False))
BIG_CPU = Hardware(Cpu(cores=tuple(range(8)), free_bytes=200 * GIB, has_bf16=True))

SHAPE = Architecture(
    name="LlamaForCausalLM",
    layers=(Layers("full", 25, kv_heads=8, key_dim=128, value_dim=128),),
    hidden_size=4096,
    intermediate_size=14_336,
    vocab_size=32_000,
    max_position_embeddings=32_768,
    parameters=0,
    heads=32,
)


def need(name: str, gib: float, **fields: int | None) -> ModelNeed:
    """Return a bf16 model of so many GiB with 102,400 bytes of KV cache per token."""
    size = int(gib * GIB)
    shape = replace(SHAPE, parameters=size // 2)
    return replace(ModelNeed(name, shape, size), **fields)  # type: ignore[arg-type]  # ints


def members(*names: str, judge: str | None = None, tokens: int = 0) -> dict[str, PresetNeed]:
    """Return one preset."""
    return {"p": PresetNeed(names, judge, tokens)}


def gpus(*free: float) -> Hardware:
    """Return cards of one kind whenever their GiB are equal."""
    cards = (Gpu(f"gpu{i}", "card", int(f * GIB), int(f * GIB)) for i, f in enumerate(free))
    return Hardware(BIG_CPU.cpu, tuple(cards))


def more(hardware: Hardware, *extra: int) -> Hardware:
    """Free more bytes on each device; the last figure counts for all that follow."""
    extra = (*extra, *([extra[-1]] * len(hardware.gpus)))
    cards = tuple(
        replace(gpu, free_bytes=gpu.free_bytes + more)
        for gpu, more in zip(hardware.gpus, extra, strict=False)
    )
    cpu = replace(hardware.cpu, free_bytes=hardware.cpu.free_bytes + extra[0])
    return Hardware(cpu, cards)


Asked = tuple[Sequence[ModelNeed], Mapping[str, PresetNeed]]


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    """Draw one or two presets over up to five models, and what each model is."""
    names = draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=5, unique=True))
    presets = {}
    for preset in ("p", "q")[: draw(st.integers(1, 2))]:
        panel = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
        judge = draw(st.none() | st.sampled_from(names))
        presets[preset] = PresetNeed(tuple(panel), judge, draw(st.sampled_from([0, 6000])))
    used = {m for p in presets.values() for m in (*p.members, p.judge)}
    sizes = st.one_of(st.floats(0.1, 40), st.floats(20, 200))
    needs = [
        need(
            name,
            draw(sizes),
            max_model_len=draw(st.sampled_from([512, 4096, 8192, 24_576])),
            max_num_seqs=draw(st.sampled_from([1, 8, 48])),
            tensor_parallel_size=draw(st.sampled_from([None, None, None, 1, 2])),
        )
        for name in names
        if name in used
    ]
    return needs, presets


machines = st.one_of(
    st.sampled_from([SMALL_CPU, BIG_CPU]),
    st.lists(st.sampled_from([24, 24, 80]), min_size=1, max_size=3).map(lambda f: gpus(*f)),
    st.floats(1, 200).map(lambda f: gpus(f, f)),
)
fits = st.lists(st.sampled_from(ALL_STEPS), unique=True)
