"""The laws of the house, read off the source. A law that is in the way is changed here, with its reason, not around."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP_LEVEL = {"pyproject.toml", "README.md", "LICENSE", "engine", "workbench", "tests", "assets"}

MLX_FILES = (
    "engine/runtime/worker.py",
    "engine/runtime/thread.py",
    "engine/runtime/following.py",  # the engine thread of a process that serves nobody
    "engine/runtime/stats.py",
    "engine/runtime/output/detokenizer.py",
    "engine/grammar/mask.py",  # a logits processor
    "engine/prompt/*.py",
    "engine/models/*.py",
    "engine/cache/*.py",
    "engine/core.py",  # inside the engine thread's function only: test_core_imports_mlx_in_its_thread
    "engine/measure/selftest/observer.py",  # called by the engine thread
    "engine/measure/selftest/reference.py",  # the same
    "engine/measure/bench/hardware.py",  # asks MLX what the GPU is, and computes nothing
    "engine/measure/bench/peers.py",  # the libraries by themselves, while the engine's thread is idle
)
THREAD_MAKERS = {"Thread", "ThreadPoolExecutor", "ProcessPoolExecutor", "to_thread", "run_in_executor"}
THREAD_MAKERS |= {"threading.Timer", "multiprocessing.Process", "run_in_threadpool", "start_new_thread"}
THREAD_FILES = {
    "engine/core.py",
    "workbench/app.py",
    "engine/offline/shared.py",  # the loop of calls that wait: the caller's thread may run a loop of its own
    "engine/hub/shelf.py",  # looking through folders and the hub, and downloads, which take minutes
    "engine/cache/disk/writer.py",  # a disk takes as long as it takes, and the engine thread must not wait for it
    "engine/ranks/leader.py",  # a rank that is lost must be noticed while the engine thread waits for it in MLX
    "engine/ranks/follower.py",  # the same on the other side
    "engine/request_log/file.py",  # the same disk, and no request may wait for it
    "engine/request_log/otlp.py",  # the last spans, when it ends: a collector that hangs must not keep the process
    "engine/cache/disk/reader.py",  # the same; not the writer's thread, whose queue may be long when a prompt comes
    "engine/measure/bench/run.py",  # pictures and clips are drawn off the loop, so that the chat that shares it goes on
    "engine/api/files/store.py",  # uploads of hundreds of MB are written while answers go on
    "engine/api/batches/worker.py",  # the same, read and checked line by line
    "workbench/conversations/library.py",  # SQLite, and copying and hashing media, take as long as a disk takes
    "workbench/batch/desk.py",  # files that are sent are copied and written
    "workbench/batch/run.py",  # folders are read, the pages of PDFs counted, exports written
    "workbench/bench/runs.py",  # kept runs are files of megabytes, and looking at the machine takes a second
}


@lru_cache(maxsize=1)
def sources() -> dict[str, ast.Module]:
    """Every Python file of the product by its path, parsed."""
    files = sorted(file for tower in ("engine", "workbench") for file in (ROOT / tower).rglob("*.py"))
    return {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text()) for file in files}


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """(dotted name, statement) of everything imported, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((f"{module}.{alias.name}", node) for alias in node.names)


def called(tree: ast.AST) -> Iterator[str]:
    """Everything that is called, as it is written and by its last name: "threading.Thread" and "Thread"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            yield from (name, name.rsplit(".", 1)[-1])


def files_that_import(*packages: str) -> dict[str, set[str]]:
    """Files and what they import of these packages."""
    found: dict[str, set[str]] = {}
    for path, tree in sources().items():
        names = {name for name, _ in imports(tree) if name.split(".")[0] in packages}
        if names:
            found[path] = names
    return found


def test_there_is_something_to_read() -> None:
    assert "engine/core.py" in sources() and "workbench/app.py" in sources() and len(sources()) > 40


def test_1_the_engine_knows_nothing_of_the_workbench() -> None:
    found = files_that_import("workbench", "gradio", "tests")
    assert not {path: names for path, names in found.items() if path.startswith("engine/")}


def test_1_no_relative_imports() -> None:
    """Absolute names only, so that the other laws see where an import leads."""
    assert not [path for path, tree in sources().items() for name, _ in imports(tree) if name.startswith(".")]


def package(module: str) -> str:
    """The unit of the tree that a module belongs to: engine.cache.disk.tier -> engine.cache, engine.core -> itself."""
    return ".".join(module.split(".")[:2])


def arrows() -> dict[str, set[str]]:
    """Which packages (or single files beside them) import which others, wherever the import stands."""
    out: dict[str, set[str]] = {}
    for path, tree in sources().items():
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if "." not in module:
            continue  # engine and workbench themselves: the front doors
        for name, _ in imports(tree):
            if name.startswith(("engine.", "workbench.")) and package(name) != package(module):
                out.setdefault(package(module), set()).add(package(name))
    return out


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Some way from a node back to itself, [] where there is none."""
    done: set[str] = set()

    def visit(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        found = next((ring for after in sorted(graph.get(node, ())) if (ring := visit(after, [*way, node]))), [])
        done.add(node)
        return found

    return next((ring for node in sorted(graph) if (ring := visit(node, []))), [])


def test_1_no_cycle_between_packages() -> None:
    graph = arrows()
    assert cycle(graph) == []
    assert cycle(graph | {"engine.types": {"engine.core"}}), "the law sees nothing"


def test_2_mlx_is_imported_only_where_the_engine_thread_runs() -> None:
    files = files_that_import("mlx", "mlx_lm", "mlx_vlm")
    assert [path for path in files if not any(fnmatch(path, allowed) for allowed in MLX_FILES)] == []
    assert "engine/models/registry.py" in files, "the law sees nothing"


def test_2_core_imports_mlx_in_its_thread() -> None:
    top = {alias for node in sources()["engine/core.py"].body for alias, _ in _own_imports(node)}
    assert not [name for name in top if name.startswith("mlx")]


def _own_imports(node: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    """Imports that run when the module is imported."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from imports(node)


def test_3_the_batcher_and_the_kv_internals_are_named_in_one_file_each() -> None:
    batchers = [path for path, names in files_that_import("mlx_lm").items() if _ends(names, "BatchGenerator")]
    assert batchers == ["engine/models/batch.py"]
    caches = {**files_that_import("mlx_lm", "mlx_vlm")}
    assert [path for path, names in caches.items() if _ends(names, "KVCache")] == ["engine/cache/tensors.py"]


def _ends(names: set[str], word: str) -> bool:
    return any(name.endswith(word) for name in names)


@pytest.mark.parametrize("word", ["BatchGenerator", "KVCache"])
def test_3_each_has_a_contract_test(word: str) -> None:
    """A test that looks at the library itself goes red when the library changes, before anything subtle does."""
    tests = [file for file in (ROOT / "tests" / "engine").rglob("test_*.py") if word in file.read_text()]
    assert tests, f"no test names {word}"


def test_4_threads_are_made_only_where_it_says() -> None:
    makers = {path for path, tree in sources().items() if THREAD_MAKERS & set(called(tree))}
    assert makers <= THREAD_FILES, makers - THREAD_FILES
    assert "engine/core.py" in makers, "the law sees nothing"


def test_5_no_global() -> None:
    wrong = [path for path, tree in sources().items() if any(isinstance(node, ast.Global) for node in ast.walk(tree))]
    assert wrong == []


def test_5_no_statement_runs_at_import() -> None:
    """A module's body defines; it does not do. Loops, calls for their effect and try-imports are work."""
    wrong = [f"{path}:{node.lineno}" for path, tree in sources().items() for node in tree.body if _is_work(node)]
    assert wrong == []


def _is_work(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" not in ast.unparse(node.test) and "__main__" not in ast.unparse(node.test)
    return isinstance(node, ast.For | ast.While | ast.With | ast.Try | ast.AugAssign | ast.Delete)


def test_5_nothing_imported_is_patched_but_mlx_on_a_linux_cpu() -> None:
    """MLX has no other door for a faster attention; test_cpu holds that only the thread that asks sees it."""
    patched = {path: [*_patches(tree)] for path, tree in sources().items()}
    assert {path: len(lines) for path, lines in patched.items() if lines} == {"engine/models/cpu.py": 2}


def _patches(tree: ast.Module) -> Iterator[int]:
    """Lines that set an attribute on an imported name, or through setattr."""
    imported = {(name.asname or name.name).split(".")[0] for node in ast.walk(tree) for name in _names(node)}
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr":
            targets = [ast.Attribute(node.args[0], "by setattr")]
        for target in targets:
            if isinstance(target, ast.Attribute) and ast.unparse(target.value).split(".")[0] in imported:
                yield node.lineno


PROCESSOR_FILES = {
    "engine/prompt/processor.py",  # for one prompt, and set back whatever happens
    "engine/models/loading.py",  # once, as the model is loaded
}


def test_5_upstream_processors_are_changed_only_where_it_says() -> None:
    """They are shared by all prompts: whoever sets an attribute on one must set it back."""
    changed = {path for path, tree in sources().items() if any(_sets_on_a_processor(node) for node in ast.walk(tree))}
    assert changed == PROCESSOR_FILES
    for code in ("self.processor.size = 1", "image_processor.size += 1", "setattr(target, name, 1)", "del inner.a.b"):
        assert _sets_on_a_processor(ast.parse(code).body[0]), f"the law does not see {code}"
    assert not _sets_on_a_processor(ast.parse("self.processor = None").body[0])


def _sets_on_a_processor(node: ast.AST) -> bool:
    """An attribute set or deleted on what is called a processor (or inner), or by its name on anything."""
    if isinstance(node, ast.Expr):
        node = node.value
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr"):
        return True
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign | ast.Delete):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    owners = [ast.unparse(target.value) for target in targets if isinstance(target, ast.Attribute)]
    return any("processor" in owner or owner.startswith("inner") for owner in owners)


def _names(node: ast.AST) -> list[ast.alias]:
    return node.names if isinstance(node, ast.Import | ast.ImportFrom) else []


def test_5_importing_starts_nothing() -> None:
    """In a process of its own: no thread, no MLX, no Gradio, no web framework, and the environment is as it was."""
    code = (
        "import os, sys, threading; before = dict(os.environ); "
        "import engine.cli, engine.measure.bench.command, engine.measure.replay.command, workbench.app; "
        "late = {'asyncio', 'httpx', 'engine.types.events', 'engine.types.state'} & set(sys.modules); "
        "assert not late, f'--help would be slow: {late}'; "
        "import engine.measure.eval.command, engine.measure.selftest.command, engine.batch_run.command; "
        "assert dict(os.environ) == before, 'environment'; "
        "assert threading.active_count() == 1, 'threads'; "
        "slow = {'mlx', 'mlx_lm', 'mlx_vlm', 'gradio', 'fastapi', 'uvicorn', 'cv2', 'transformers'}; "
        "found = slow & set(sys.modules); "
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_6_exceptions_are_defined_in_one_place() -> None:
    wrong = [
        f"{path}:{node.name}"
        for path, tree in sources().items()
        if path != "engine/errors.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(_is_exception(base) for base in node.bases)
    ]
    assert wrong == []


def _is_exception(base: ast.expr) -> bool:
    import engine.errors

    name = ast.unparse(base).rsplit(".", 1)[-1]
    return name.endswith(("Error", "Exception", "Warning", "Interrupt")) or hasattr(engine.errors, name)


def test_files_are_of_one_noun() -> None:
    """Nobody has to look through more than about 400 lines: a file that grows longer holds a noun more."""
    lines = {path: len((ROOT / path).read_text().splitlines()) for path in sources()}
    assert {path: count for path, count in lines.items() if count > 420} == {}


def test_7_the_visible_top_level() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    visible = {name.split("/")[0] for name in listed.splitlines() if not name.startswith(".")}
    assert visible == TOP_LEVEL


@pytest.mark.parametrize("word", ["manager", "helper", "utils", "common", "misc", "v2"])
def test_names_that_say_nothing(word: str) -> None:
    """Not a law but a habit worth keeping: such a file gathers whatever has no home."""
    assert not [path for path in sources() if word in Path(path).stem.split("_")]


def named_types() -> dict[str, list[str]]:
    """Every class and type alias of the product, private ones apart, and the files that define it."""
    out: dict[str, list[str]] = {}
    for path, tree in sources().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign):
                names = [t.id for t in node.targets if isinstance(t, ast.Name) and t.id != t.id.upper()]
            else:
                continue
            for name in names:
                if name[0].isupper():
                    out.setdefault(name, []).append(path)
    return out


def test_one_name_means_one_thing() -> None:
    """No two classes or type aliases share a name: whoever reads `Settings` must not ask which."""
    assert len(named_types()) > 150, "the law sees nothing"
    assert {name: paths for name, paths in named_types().items() if len(paths) > 1} == {}


def test_a_twin_goes_red_for_its_own_reason() -> None:
    """A sabotage that any failed assertion satisfies proves nothing: it names the message that it must see."""
    wrong = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises"
        if "AssertionError" in ast.unparse(node.args[0]) and not any(word.arg == "match" for word in node.keywords)
    ]
    assert wrong == []
