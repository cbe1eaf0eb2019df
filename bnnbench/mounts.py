"""File systems that SQLite cannot share: its write-ahead log is memory that processes share.

Linux alone is asked; elsewhere nothing is known, and nothing is refused. 9p and virtiofs are not
in the list: virtual machines and sandboxes have their own disks by them.
"""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
#: types of file systems, as /proc/mounts has them
NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "davfs", "ceph", "lustre", "gpfs"),
    *("beegfs", "panfs", "wekafs", "glusterfs", "pvfs2", "orangefs", "ocfs2", "gfs2"),
    *(f"fuse.{name}" for name in ("sshfs", "ceph", "ceph-fuse", "glusterfs", "rclone", "s3fs")),
    *(f"fuse.{name}" for name in ("goofys", "gcsfuse", "juicefs", "davfs", "curlftpfs")),
}


def network_type(path: Path) -> str:
    """Return the type of the network file system that a path lies on, or nothing."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    place, here, kind = path.resolve(), -1, ""
    for line in lines:
        _, point, found, *_ = [*line.split(" "), "", ""]
        mounted = Path(_plain(point))
        # of two at one point the later one hides the other
        if place.is_relative_to(mounted) and len(mounted.parts) >= here:
            here, kind = len(mounted.parts), found
    return kind if kind in NETWORK else ""


def _plain(text: str) -> str:
    r"""A path of the table, in which spaces and the like are octal numbers.

    >>> _plain(r"/mnt/my\040disk")
    '/mnt/my disk'
    """
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
