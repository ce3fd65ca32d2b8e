"""What a directory stands on, told from tables such as the kernel gives."""

from pathlib import Path

import pytest

from daemon.runtime.state.filesystem import caution, filesystem_at, is_remote, mounts

HOST = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 27 0:40 / /srv/my\040data rw,relatime shared:3 master:2 - nfs4 filer:/export/a rw,vers=4.2
41 27 0:41 / /srv rw,relatime - xfs /dev/vdb rw
42 41 0:42 / /srv/deep rw - cifs //filer/share rw
50 27 0:50 / /mnt rw,relatime unbindable - nfs filer:/b rw
51 50 0:51 / /mnt rw,relatime - ext4 /dev/vdc rw
60 27 0:60 / /tab\011here\134there rw - fuse.sshfs me@far:/ rw
80 27 0:80 / /run rw,nosuid - tmpfs tmpfs rw
81 80 0:81 /sub /run/bound rw - ext4 /dev/vda rw
90 27 0:90 /docker/files /etc/hosts rw - ext4 /dev/vda rw
not a line
"""
CONTAINER = """
700 600 0:99 / / rw,relatime master:9 - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d
701 700 0:21 / /proc rw - proc proc rw
702 700 259:1 /volumes/state /var/lib/refreshd rw,relatime - xfs /dev/nvme0n1 rw
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", "ext4"),
        ("/var/lib/refreshd", "ext4"),
        ("/srv", "xfs"),
        ("/srvother", "ext4"),
        ("/srv/deep", "cifs"),
        ("/srv/deep/down/there", "cifs"),
        ("/srv/deeper", "xfs"),
        ("/mnt/state", "ext4"),
        ("/tab\there\\there/state", "fuse.sshfs"),
        ("/run/state", "tmpfs"),
        ("/run/bound/state", "ext4"),
    ],
)
def test_a_path_belongs_to_the_mount_that_the_kernel_would_reach(path, found):
    """The deepest mount on its way, by whole names; of two on one point the upper one, and escapes are undone."""
    assert filesystem_at(Path(path), HOST) == found


def test_a_mount_that_another_hides_does_not_count():
    """/srv was mounted after /srv/my data, over it: a path below leads into /srv's file system, not to the filer."""
    assert filesystem_at(Path("/srv/my data/state"), HOST) == "xfs"
    seen = HOST.replace("41 27 0:41 / /srv ", "41 27 0:41 / /elsewhere ")
    assert filesystem_at(Path("/srv/my data/state"), seen) == "nfs4"


def test_in_a_container_the_outermost_mount_has_a_parent_that_is_not_listed():
    """Its own layer by default, and a volume where one is mounted."""
    assert filesystem_at(Path("/app/var"), CONTAINER) == "overlay"
    assert filesystem_at(Path("/var/lib/refreshd/journal.db"), CONTAINER) == "xfs"


def test_a_root_that_is_its_own_parent_ends_the_search():
    """So the first of all mounts, the boot's, is listed."""
    assert filesystem_at(Path("/x"), "1 1 0:2 / / rw - rootfs rootfs rw\n") == "rootfs"
    assert (
        filesystem_at(Path("/x"), "1 1 0:2 / / rw - rootfs none rw\n2 1 8:1 / / rw - ext4 /dev/a rw\n")
        == "ext4"
    )


@pytest.mark.parametrize(
    "text", ["", "\n", "27 1 254:0 / / rw", "27 1 254:0 / / rw - ", "27 1 8:1 / /far rw - xfs a rw"]
)
def test_what_is_not_told_is_not_guessed(text):
    """No list, a cut line, or a list in which nothing holds the path."""
    assert filesystem_at(Path("/var"), text) is None


def test_the_kernels_own_list_is_understood(tmp_path):
    """On the machine that runs this: / and a new directory are on something, and no list is no error."""
    assert filesystem_at(Path("/"), mounts())
    assert filesystem_at(Path("/proc/self"), mounts()) == "proc"
    assert mounts(tmp_path / "missing") == ""


@pytest.mark.parametrize(
    "filesystem",
    ["nfs", "nfs4", "cifs", "smb3", "afs", "ceph", "lustre", "glusterfs", "beegfs", "fuse.sshfs", "fuse.glusterfs",
     "fuse.ceph-fuse", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.juicefs"],
)  # fmt: skip
def test_another_machines_files_are_remote(filesystem):
    """By the kernel's name for it, or by the program behind FUSE."""
    assert is_remote(filesystem)


@pytest.mark.parametrize(
    "filesystem",
    ["ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "9p", "virtiofs", "fuseblk", "fuse.fuse-overlayfs",
     "fuse.bindfs", "fuse.gocryptfs", "nfsd", "cephalopod"],
)  # fmt: skip
def test_this_machines_files_are_not(filesystem):
    """Nor is a name that only begins like one, or a container's layer."""
    assert not is_remote(filesystem)


@pytest.mark.parametrize(
    ("filesystem", "why"),
    [("tmpfs", "restarts"), ("ramfs", "restarts"), ("overlay", "container"), ("fuse.fuse-overlayfs", "container"),
     ("9p", "host")],
)  # fmt: skip
def test_what_does_not_last_is_cautioned_about(filesystem, why):
    """With what will be the end of it."""
    assert why in caution(filesystem)


@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "btrfs", "zfs", "virtiofs"])
def test_a_disk_is_nothing_to_be_told_of(filesystem):
    """No caution without a reason."""
    assert caution(filesystem) is None
