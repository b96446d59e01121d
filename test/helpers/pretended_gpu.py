"""A GPU that is not there: tensors that say they are on CUDA, computed on the CPU.

Code runs as it would on a GPU, branch by branch and with its results, and everything that makes a
CPU wait for a GPU is noted: copies from one to the other and questions about what tensors hold.
"""

import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

import face_pose_ros

# Any device that torch can talk about where it is not.
DEVICE = torch.device('meta')
_SOURCES = Path(face_pose_ros.__file__).parent
# What has a value or a shape that only the GPU knows.
_ASKING = ('_local_scalar_dense', 'equal', 'masked_select', 'nonzero', 'unique')
# These look whether they have succeeded, which `cholesky_ex` and its like leave to the caller.
_ASKING += ('_linalg_check_errors', '_linalg_eigh', '_linalg_svd')


class Wait(NamedTuple):
    """The CPU waits for the GPU."""

    kind: str  # upload, download or question
    where: str  # file of the package, and function; empty: not in the package


class PretendedTensor(torch.Tensor):
    """A tensor on the pretended GPU; `on_cpu` is what it holds."""

    @staticmethod
    def __new__(cls, on_cpu):
        # What inference mode makes takes no views of what was there before it.
        with torch.inference_mode(False):
            tensor = torch.Tensor._make_wrapper_subclass(
                cls,
                on_cpu.shape,
                strides=on_cpu.stride(),
                storage_offset=on_cpu.storage_offset(),
                dtype=on_cpu.dtype,
                device=DEVICE,
            )
        tensor.on_cpu = on_cpu
        return tensor

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f'{func} outside of pretended_gpu()')


class _PretendedGpu(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        inputs = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        pretended = [x for x in inputs if isinstance(x, PretendedTensor)]
        device = kwargs.get('device')
        to_gpu = device is not None and torch.device(device).type == DEVICE.type
        if to_gpu:
            kwargs['device'] = 'cpu'
        on_gpu = to_gpu or (bool(pretended) and device is None)
        self._note(func, args, inputs, pretended, on_gpu)
        name = func._schema.name
        if name == 'aten::copy_':
            on_gpu = isinstance(args[0], PretendedTensor)
        elif name == 'aten::_local_scalar_dense':
            on_gpu = False
        outputs = func(*_held(args), **_held(kwargs))
        if not on_gpu:
            return outputs
        known = {id(x.on_cpu): x for x in pretended}  # what is written in place stays itself
        return tree_map_only(
            torch.Tensor,
            lambda x: known[id(x)] if id(x) in known else PretendedTensor(x),
            outputs,
        )

    def _note(self, func, args, inputs, pretended, on_gpu):
        name = func._schema.name.removeprefix('aten::')
        crosses = len(pretended) < len(inputs)
        if name == '_to_copy' and on_gpu != bool(pretended):
            self._wait('upload' if on_gpu else 'download')
        elif name == 'copy_' and crosses and pretended:
            self._wait('upload' if isinstance(args[0], PretendedTensor) else 'download')
        elif pretended and name.startswith(_ASKING):
            self._wait('question')
        elif pretended and name.startswith('index') and isinstance(args[1], (list, tuple)):
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self._wait('question')
            elif not all(isinstance(index, PretendedTensor) for index in indices):
                self._wait('upload')
        elif pretended and any(x.ndim > 0 for x in inputs if not isinstance(x, PretendedTensor)):
            raise RuntimeError(f'{func}: expected all tensors to be on the same device')

    def _wait(self, kind):
        where = ''
        for frame in traceback.extract_stack():
            path = Path(frame.filename)
            if path.is_relative_to(_SOURCES):
                where = f'{path.relative_to(_SOURCES).as_posix()}:{frame.name}'
        self.waits.append(Wait(kind, where))


def _held(tree):
    return tree_map_only(PretendedTensor, lambda x: x.on_cpu, tree)


class _Uploads(TorchFunctionMode):
    """Tensors of Python numbers are made on the CPU and copied, as for a real GPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.new_tensor:
            like, *args = args
            kwargs = {'dtype': like.dtype, 'device': like.device} | kwargs
            func = torch.tensor
        if func is torch.tensor and kwargs.get('device') == DEVICE:
            return torch.tensor(*args, **kwargs | {'device': 'cpu'}).to(DEVICE)
        return func(*args, **kwargs)


@contextmanager
def pretended_gpu():
    """Within it DEVICE can be used; gives the list of `Wait`s so far."""
    with _PretendedGpu() as gpu, _Uploads():
        yield gpu.waits


def on_pretended_gpu(network):
    """A network that lives on the CPU, for pictures on the pretended GPU."""

    def call(pictures):
        outputs = network(pictures.on_cpu)
        if isinstance(outputs, torch.Tensor):
            return PretendedTensor(outputs)
        return getattr(outputs, '_make', tuple)(PretendedTensor(x) for x in outputs)

    return call
