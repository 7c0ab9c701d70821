"""Whose secrets lie where: the folders of several roles, looked through file by file."""

import stat

SECRET_NAMES = ("keystore.json", "identity.json", "passphrase", "key-", "owner.sealed", "run")
SECRET_ENDS = (".seed",)


def shared_secrets(folders, known=None):
    """Return what is wrong, in words, in the folders of {role: folder}: a secret in another role's reach.

    known: {what: (role, bytes)}, secrets that must stand in no file of another role, raw or as hex. A secret file is
    one of SECRET_NAMES or ends like SECRET_ENDS, or is below a folder of such a name; no two roles may have one by
    inode or by content, and none may be open to others.
    """
    files = {role: [path for path in folder.rglob("*") if path.is_file()] for role, folder in folders.items()}
    return [*_modes(folders, files), *_twice(folders, files), *_elsewhere(files, known or {})]


def _is_secret(path, folder):
    return path.name.endswith(SECRET_ENDS) or any(
        part.startswith(SECRET_NAMES) for part in path.relative_to(folder).parts
    )


def _modes(folders, files):
    for role, folder in folders.items():
        if stat.S_IMODE(folder.stat().st_mode) != 0o700:
            yield f"{role}'s folder is open to others"
        for path in files[role]:
            if _is_secret(path, folder) and stat.S_IMODE(path.stat().st_mode) != 0o600:
                yield f"{role}'s {path.name} is open to others"


def _twice(folders, files):
    seen = {}
    for role, folder in folders.items():
        for path in (one for one in files[role] if _is_secret(one, folder)):
            for mark in ((path.stat().st_dev, path.stat().st_ino), path.read_bytes()):
                other = seen.setdefault(mark, role)
                if other != role:
                    yield f"{role} and {other} share the secret file {path.name}"


def _elsewhere(files, known):
    for role, paths in files.items():
        strange = [(what, secret) for what, (owner, secret) in known.items() if owner != role]
        for path in paths:
            raw = path.read_bytes()
            for what, secret in strange:
                if secret in raw or secret.hex().encode() in raw:
                    yield f"{what} stands in {role}'s {path.name}"
