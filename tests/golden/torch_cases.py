# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Files of torch.save for tests/io/torch_file_test.cpp: good ones with their contents beside, and ones to be refused.
import os
import warnings
import zipfile
from collections import OrderedDict

import torch
from safetensors.torch import save_file

from fixture import HERE, Draw

PLACE = HERE.parent / "io" / "torch"


def kinds():
    """Every dtype; scalars, empty, shared, sliced and transposed tensors; a module's state_dict; dicts in dicts."""
    r = Draw("torch_kinds")
    base = r.normal(4, 6).float()
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2)).float()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(r.normal(*p.shape))
    types = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
             torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn,
             torch.float8_e5m2]
    values = {str(t)[6:]: (base * 10).abs().to(t) for t in types}
    views = {"all": base, "rows": base[1:3], "columns": base[:, 2:4], "transposed": base.t(), "one": base[2, 3],
             "every_second": base[::2, ::3], "axis_of_one": base[:, 3:4].unsqueeze(0), "empty": base[:0],
             "permuted": base.reshape(2, 2, 6).permute(2, 0, 1)}
    whole = OrderedDict(step=7, epoch=0.5, note="a text", nothing=None, flags=[1, 2, "three"], big=2**40)
    whole["model"] = {"values": values, "views": views, "module": module.state_dict(),
                      "parameter": module[0].weight, 3: {"number": torch.arange(3)}}
    return whole


def contents(path, prefix, whole):
    """Names and contiguous copies, in order."""
    found = {}
    for key, v in whole.items():
        name = f"{prefix}{key}"
        if isinstance(v, dict):
            found.update(contents(path, name + ".", v))
        elif isinstance(v, torch.Tensor):
            found[name] = v.detach().contiguous().clone()
    return found


class Command:
    def __reduce__(self):
        return os.system, ("true",)


def make():
    torch.set_default_dtype(torch.float32)
    PLACE.mkdir(exist_ok=True)
    whole = kinds()
    torch.save(whole, PLACE / "kinds.pt")
    save_file(contents(PLACE, "", whole), PLACE / "kinds.safetensors")
    small = {"a": torch.arange(6).reshape(2, 3).float(), "b": {"c": torch.ones(2)}}
    torch.save(small, PLACE / "protocol4.pt", pickle_protocol=4)
    torch.save(small, PLACE / "old_format.pt", _use_new_zipfile_serialization=False)
    torch.save({"a": torch.ones(2), "run": Command()}, PLACE / "command.pt")
    torch.save(torch.nn.Linear(2, 2), PLACE / "module.pt")
    torch.save({"a": torch.ones(3).expand(1000, 3)}, PLACE / "expanded.pt")
    torch.save({"a": [torch.ones(2)]}, PLACE / "list.pt")
    torch.save({"a": torch.ones(2, dtype=torch.complex64)}, PLACE / "complex.pt")
    torch.save({"a": torch.eye(3).to_sparse()}, PLACE / "sparse.pt")
    with zipfile.ZipFile(PLACE / "protocol4.pt") as read, \
            zipfile.ZipFile(PLACE / "compressed.pt", "w", zipfile.ZIP_DEFLATED) as out:
        for name in read.namelist():
            out.writestr(zipfile.ZipInfo(name), read.read(name) * 1, zipfile.ZIP_DEFLATED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), PLACE / "script.pt")
    torch.set_default_dtype(torch.float64)
