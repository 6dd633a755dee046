"""Read a PyTorch state dict (the legacy .pth layout) into numpy arrays without PyTorch and without running what it pickles."""

import collections
import io
import pickle
import struct

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGE_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8"), "HalfStorage": np.dtype("<f2")}


class _Storage:
    """The flat buffer behind one or more tensors; filled after the pickle, as the file stores it behind."""

    def __init__(self, dtype: np.dtype):
        self.dtype = dtype
        self.values = np.empty(0, dtype)


class _Tensor:
    """A strided view on a storage, as the pickle describes it."""

    def __init__(self, storage, offset, shape, stride, *_unused):
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    def array(self) -> np.ndarray:
        values, size = self.storage.values, self.storage.dtype.itemsize
        last = self.offset + sum((length - 1) * step for length, step in zip(self.shape, self.stride))
        if 0 not in self.shape and (min((self.offset, *self.stride)) < 0 or last >= len(values)):
            raise pickle.UnpicklingError(f"a tensor reaches element {last} of a storage of {len(values)}")
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, [step * size for step in self.stride])
        return view.copy()


class _StateDictUnpickler(pickle.Unpickler):
    """Knows the few names a state dict needs; any other global is refused, so the file cannot call anything."""

    def __init__(self, file):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in STORAGE_TYPES:
            return STORAGE_TYPES[name]
        raise pickle.UnpicklingError(f"a state dict has no use for {module}.{name}")

    def persistent_load(self, reference):
        _kind, dtype, key, _device, _length, _view = reference
        return self.storages.setdefault(key, _Storage(dtype))


def read_state_dict(content: bytes) -> dict[str, np.ndarray]:
    """Parameter name → array, in the file's order.

    Raises pickle.UnpicklingError when the content is not a legacy checkpoint or asks for anything but tensors.
    """
    file = io.BytesIO(content)
    if _StateDictUnpickler(file).load() != LEGACY_MAGIC:
        raise pickle.UnpicklingError("not a legacy PyTorch checkpoint")
    for _protocol_then_system in range(2):
        _StateDictUnpickler(file).load()
    unpickler = _StateDictUnpickler(file)
    state = unpickler.load()
    for key in _StateDictUnpickler(file).load():
        storage = unpickler.storages[key]
        (length,) = struct.unpack("<q", file.read(8))
        storage.values = np.frombuffer(file.read(length * storage.dtype.itemsize), storage.dtype)
        if len(storage.values) != length:
            raise pickle.UnpicklingError(f"storage {key} is cut short")
    return {name: tensor.array() for name, tensor in state.items()}
