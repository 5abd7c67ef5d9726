"""Golden files: written, or compared with what is kept. A file's content is bytes, a JSON value or tensors by name."""

import json
import sys

from safetensors.torch import load_file, save_file

TOLERANCE = 1e-5


def keep_or_check(folder, files, check):
    """Writes `files` (path below the folder to content), or ends the program by whether they are what is kept."""
    if not check:
        write(folder, files)
        return
    found = list(differences(folder, files))
    print("\n".join(found) or f"{len(files)} files agree with diffusers")
    sys.exit(bool(found))


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".json":
            path.write_text(json.dumps(content, indent=2) + "\n")
        else:
            save_file(content, path)


def differences(folder, files):
    for name, content in files.items():
        path = folder / name
        if not path.exists():
            yield f"{name} is not kept"
        elif isinstance(content, bytes):
            if path.read_bytes() != content:
                yield f"{name} differs"
        elif path.suffix == ".json":
            if json.loads(path.read_text()) != json.loads(json.dumps(content)):
                yield f"{name} differs"
        else:
            kept = load_file(path)
            if kept.keys() != content.keys():
                yield f"{name} holds other tensors"
                continue
            for key, tensor in content.items():
                ours, theirs = tensor.double(), kept[key].double()
                if ours.shape != theirs.shape or (ours - theirs).norm() > TOLERANCE * (theirs.norm() + 1e-30):
                    yield f"{name}: {key} differs"
