"""One command as a container would run it: the image's own files, its user, its limits; the machine's network.

A mount namespace of its own, the root read-only, a /tmp in memory, no privilege and no way to one: what compose.yaml
asks of an engine, without one. What a network of its own would keep apart is not tested here.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

USER = 10001
TMP = "mode=1777,size=512m"


def inside(
    root: Path, command: Sequence[str], *, environment: Mapping[str, str], volumes: Sequence[tuple[Path, str, bool]]
) -> list[str]:  # fmt: skip
    """Return the arguments that run ``command`` in a mounted image.

    volumes: a folder or file of this machine, where the command sees it, whether it may write. environment: all of it,
    so also what the image sets (``image_environment``).
    """
    at = shlex.quote(str(root))
    lines = [f"mount --bind {at} {at}", f"mount -t proc proc {at}/proc", f"mount --rbind /dev {at}/dev",
             f"mount -t tmpfs -o {TMP} tmpfs {at}/tmp", f"mount -t tmpfs -o mode=0755 tmpfs {at}/run"]  # fmt: skip
    for source, target, writable in volumes:
        place = f"{at}{shlex.quote(target)}"
        if target.startswith("/run/"):  # nothing is there before: an engine makes these, too
            lines.append(f"mkdir -p {place}" if source.is_dir() else f"install -D /dev/null {place}")
        lines.append(f"mount --bind {shlex.quote(str(source))} {place}")
        if not writable:
            lines.append(f"mount -o remount,ro,bind {place}")
    lines.append(f"mount -o remount,ro,bind {at}")
    drop = ["/usr/bin/setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs",
            "--bounding-set=-all", "--inh-caps=-all"]  # fmt: skip
    given = [f"{name}={value}" for name, value in environment.items()]
    run = ["chroot", str(root), *drop, "/usr/bin/env", "-i", "--chdir=/data", *given, *command]
    lines.append("exec " + shlex.join(run))
    return ["unshare", "--mount", "--propagation=private", "sh", "-euc", "\n".join(lines)]


def image_environment(dockerfile: str) -> dict[str, str]:
    """Return what the last stage of a Dockerfile sets."""
    stage = dockerfile.rsplit("\nFROM ", 1)[1].replace("\\\n", " ")
    words = [word for line in stage.splitlines() if line.startswith("ENV ") for word in shlex.split(line)[1:]]
    set_here = dict(word.split("=", 1) for word in words)
    path = set_here.pop("PATH").replace("$PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return {"PATH": path, **set_here}
