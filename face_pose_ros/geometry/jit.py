# Copyright the face_pose_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`compiled` and `inner`: numba decorators with a machine-code cache that is safe to reuse.

numba's own cache does not recompile a function when a file that its source imports changes, and
fails where neither the installation nor the user's cache can be written. Here each source file
gets a cache folder named by a hash of all sources that its functions use. It is in the first
writable place of: NUMBA_CACHE_DIR, the installation, the user's cache, the temporary folder.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numba
from llvmlite.binding import parse_bitcode

from face_pose_ros.cache import writable_folder

Function = TypeVar('Function', bound=Callable[..., Any])

_config: Any = numba.config
_PACKAGE = Path(__file__).parent.parent
_INSTALLED = _PACKAGE / '__pycache__' / 'numba'
_IMPORT = re.compile(
    rf'^\s*(?:from|import) ({_PACKAGE.name}[.\w]*)(?: import (\([^)]*\)|.*))?', re.MULTILINE
)


def compiled(function: Function) -> Function:
    """Compile a function on its first call with given argument types; it runs without the GIL.

    Division by zero gives infinity or NaN, as in numpy. Sums may be reordered.
    """
    return _decorated(function, no_cfunc_wrapper=True)


def inner(function: Function) -> Function:
    """Like `compiled`, but callable only from compiled code.

    This saves the wrapper for Python calls, which often takes longer to compile than the function.
    """
    return _decorated(function, no_cfunc_wrapper=True, no_cpython_wrapper=True)


def _decorated(function: Function, **options: Any) -> Function:
    folder = _folder(Path(function.__code__.co_filename))
    decorate: Any = numba.njit(
        cache=folder is not None,
        nogil=True,
        error_model='numpy',
        # 'reassoc' lets sums be vectorised; NaN and infinity keep their meaning.
        fastmath={'reassoc', 'contract', 'nsz', 'arcp'},
        **options,
    )
    # numba reads the cache folder while it decorates; other packages keep their own folder.
    users, _config.CACHE_DIR = _config.CACHE_DIR, str(folder or '')
    try:
        dispatcher = decorate(function)
    finally:
        _config.CACHE_DIR = users
    if folder is not None and hasattr(dispatcher, '_cache'):  # else NUMBA_DISABLE_JIT is set
        dispatcher._cache = _Forgiving(dispatcher._cache, folder)
    return dispatcher


def without_blas() -> None:
    """Keep numba from importing scipy.linalg, which takes 15 MB; for a process of our own.

    numba wants BLAS for products of matrices, of which there are none in compiled code here. Other
    code of the process can't compile any afterwards.
    """
    if 'scipy.linalg' not in sys.modules:
        sys.modules['scipy.linalg'] = None  # type: ignore[assignment]
        try:
            import_module('numba.np.arraymath')
        finally:
            del sys.modules['scipy.linalg']


class _Forgiving:
    """A numba cache in which unreadable files cause recompilation, and failed writes no error.

    Without it, a file truncated by a power loss makes every later start fail, and the LLVM modules
    of all functions that were read stay in memory: 18 MB.
    """

    def __init__(self, cache: Any, folder: Path) -> None:
        self._cache = cache
        self._folder = folder

    def load_overload(self, *arguments: Any) -> Any:
        try:
            loaded = self._cache.load_overload(*arguments)
        except Exception:  # unpickling a truncated file may raise anything
            shutil.rmtree(self._folder, ignore_errors=True)
            return None
        if loaded is not None:
            _pack_module(loaded.library)
        return loaded

    def save_overload(self, *arguments: Any) -> None:
        with suppress(OSError):  # the disk may be full
            self._cache.save_overload(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def _pack_module(library: Any) -> None:
    """Replace the LLVM module of a function that was read by its bitcode until it is needed."""
    module = getattr(library, '_shared_module', None)
    if module is None:
        return
    bitcode, library._shared_module = module.as_bitcode(), None

    def unpacked() -> Any:
        if library._shared_module is None:
            library._shared_module = parse_bitcode(bitcode)
        return library._shared_module

    library._get_module_for_linking = unpacked


def can_be_compiled_ahead(path: Path) -> bool:
    """Whether the cache of a source file is empty and another process could fill it."""
    folder = _folder(path)
    return folder is not None and not _config.DISABLE_JIT and not any(folder.rglob('*.nbi'))


@cache
def source_key(path: Path) -> str:
    """Hash of a source file and of all files of this package that it imports, also indirectly."""
    sources: dict[Path, bytes] = {}
    waiting = {path}
    while waiting:
        file = waiting.pop()
        if file not in sources and file.is_file():
            sources[file] = file.read_bytes()
            waiting.update(_imported(sources[file].decode()))
    digest = hashlib.sha256()
    for file in sorted(sources):
        digest.update(hashlib.sha256(sources[file]).digest())
    return digest.hexdigest()[:16]


def _imported(source: str) -> Iterator[Path]:
    """Candidate paths of this package's files that a source imports; some may not exist."""
    for module, names in _IMPORT.findall(source):
        base = _PACKAGE.parent.joinpath(*module.split('.'))
        for path in (base, *(base / name for name in re.findall(r'\w+', names))):
            yield path.with_suffix('.py')
            yield path / '__init__.py'


@cache
def _folder(path: Path) -> Path | None:
    """Cache folder of a source file; None if its machine code is kept in memory only."""
    base = _base()
    if base is None or not path.is_file():
        return None
    name = '.'.join(path.with_suffix('').parts[-2:])
    folder = base / f'{name}-{source_key(path)}'
    if base == _INSTALLED and not folder.is_dir():
        # Left by older sources of this installation; no other program uses it.
        for outdated in base.glob(f'{name}-*'):
            shutil.rmtree(outdated, ignore_errors=True)
    return folder


@cache
def _base() -> Path | None:
    users = [Path(_config.CACHE_DIR)] if _config.CACHE_DIR else []
    base = writable_folder('numba', *users, _INSTALLED)
    if base is None:
        logging.getLogger(__name__).warning(
            'No writable folder for compiled code: every start compiles again, which takes tens '
            'of seconds. Set NUMBA_CACHE_DIR to a folder that this user can write to '
            f'({_INSTALLED}, the user cache and the temporary folder cannot be used)'
        )
    return base
