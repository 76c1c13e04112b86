"""Official clients and those of frameworks: their own tests where they have some, else ours."""

from collections.abc import Callable, Sequence

from conformances.environment import Environment
from conformances.suite import Place, Suite, node_test, pytest

_PYTEST = "pytest==9.2.0"
_OPENAI = Environment(
    "openai-python",
    (
        "openai[aiohttp]==3.54.0",
        _PYTEST,
        "pytest-asyncio==1.5.0",
        "pytest-xdist==3.8.0",
        "inline-snapshot==0.36.1",
        "dirty-equals==0.11",
        "respx==0.23.1",
    ),
    source="openai==3.54.0",
)


def _openai(file: str, cases: str) -> Callable[[Place], Sequence[str]]:
    def command(place: Place) -> Sequence[str]:
        # Beside the folder of tests lies their conftest, which reads the address.
        tests = _OPENAI.unpacked / "tests" / "api_resources" / file
        variables = ("env", f"TEST_API_BASE_URL={place.base}")
        options = ("-n", "0", "-k", cases, "--rootdir", str(_OPENAI.unpacked))
        return (*variables, *pytest(place, *options, str(tests)))

    return command


def _file(name: str) -> Callable[[Place], Sequence[str]]:
    def command(place: Place) -> Sequence[str]:
        return pytest(place, "-c", "/dev/null", "--rootdir", ".", name)

    return command


def _script(name: str) -> Callable[[Place], Sequence[str]]:
    def command(place: Place) -> Sequence[str]:
        return node_test(place, name)

    return command


def _langchain(place: Place) -> Sequence[str]:
    options = ("-c", "/dev/null", "--rootdir", ".", "--force-enable-socket", "--asyncio-mode=auto")
    # Its clients are kept from test to test, and so must be the loop that they belong to.
    loop = ("-o", "asyncio_default_test_loop_scope=session")
    return pytest(place, *options, *loop, "langchain_chat.py")


SUITES = (
    Suite(
        "openai-python chat",
        _OPENAI,
        _openai("chat/test_completions.py", "create"),
        is_fast=True,
    ),
    Suite(
        "openai-python models",
        _OPENAI,
        _openai("test_models.py", "list or retrieve"),
        is_fast=True,
    ),
    Suite(
        "openai-python completions",
        _OPENAI,
        _openai("test_completions.py", "create"),
        route="/v1/completions",
    ),
    Suite(
        "openai-python responses",
        _OPENAI,
        _openai("test_responses.py", "path_params or create or retrieve or delete or cancel"),
        route="/v1/responses",
    ),
    Suite(
        "openai-node",
        Environment("openai-node", ("openai@7.57.0",), "node"),
        _script("openai.mjs"),
        files=("openai.mjs",),
        is_fast=True,
    ),
    Suite(
        "anthropic",
        Environment("anthropic", ("anthropic==2.12.0", _PYTEST)),
        _file("anthropic_messages.py"),
        files=("anthropic_messages.py",),
        route="/v1/messages",
    ),
    Suite(
        "llm",
        Environment("llm", ("llm==0.36", _PYTEST)),
        _file("llm_command.py"),
        files=("llm_command.py",),
    ),
    Suite(
        "pydantic-ai",
        Environment("pydantic-ai", ("pydantic-ai-slim[openai]==2.68.0", _PYTEST)),
        _file("pydantic_agent.py"),
        files=("pydantic_agent.py",),
    ),
    Suite(
        "langchain",
        Environment(
            "langchain",
            ("langchain-tests==1.1.9", "langchain-openai==1.7.3", "pytest-asyncio==1.5.0", _PYTEST),
        ),
        _langchain,
        files=("langchain_chat.py",),
    ),
    Suite(
        "ai-sdk",
        Environment(
            "ai-sdk",
            (
                "ai@7.0.173",
                "@ai-sdk/openai-compatible@3.0.92",
                "@ai-sdk/open-responses@2.0.36",
                "zod@4.6.7",
            ),
            "node",
        ),
        _script("aisdk.mjs"),
        files=("aisdk.mjs",),
    ),
)
