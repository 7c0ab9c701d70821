/* Keeps what a power cut would leave of a folder: each file as it was when it was last synced.

   Loaded before libc (LD_PRELOAD) into every process that writes there; power_cut.py builds it, and reads what it keeps.
   A synced file is copied, whole, to KEPT/DEVICE-INODE-BIRTH before its sync returns, so that whatever was acknowledged
   after the sync is in the copy. Nothing else of a file is kept: pages that nobody has synced may be lost. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int within(int fd, char *path, size_t size) {
    const char *top = getenv("BTCFI_POWER_CUT_OF");
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t many = readlink(link, path, size - 1);
    if (top == NULL || many <= 0) return 0;
    path[many] = 0;
    size_t length = strlen(top);
    return strncmp(path, top, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* Closing any descriptor of a file gives up this process's record locks on it, and SQLite holds some: read by the one
   that is given, and open another only where that one cannot read. */
static int copy(int fd, int to) {
    static __thread char page[1 << 16];
    int from = fd, flags = fcntl(fd, F_GETFL);
    char link[64];
    if ((flags & O_ACCMODE) == O_WRONLY) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if ((from = open(link, O_RDONLY | O_CLOEXEC)) < 0) return -1;
    }
    off_t at = 0;
    ssize_t got;
    int failed = 0;
    while ((got = pread(from, page, sizeof page, at)) > 0 && !failed) {
        failed = write(to, page, (size_t)got) != got;
        at += got;
    }
    if (from != fd) close(from);
    return failed || got < 0 ? -1 : 0;
}

static void keep(int fd) {
    const char *kept = getenv("BTCFI_POWER_CUT_KEPT");
    char path[4096], name[4096], draft[4096];
    struct statx found;
    if (kept == NULL || !within(fd, path, sizeof path)) return;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &found) != 0) return;
    snprintf(name, sizeof name, "%s/lock", kept);
    int lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0 || flock(lock, LOCK_EX) != 0) return;
    if (S_ISREG(found.stx_mode)) {
        snprintf(name, sizeof name, "%s/%x:%x-%llx-%llx.%x", kept, found.stx_dev_major, found.stx_dev_minor,
                 (unsigned long long)found.stx_ino, (unsigned long long)found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
        snprintf(draft, sizeof draft, "%s/draft", kept); /* one at a time: the lock is ours */
        int to = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (to >= 0) {
            if (copy(fd, to) == 0) rename(draft, name);
            close(to);
        }
    }
    snprintf(name, sizeof name, "%s/log", kept);
    int log = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log >= 0) {
        dprintf(log, "%s\n", path);
        close(log);
    }
    close(lock);
}

int fsync(int fd) {
    keep(fd);
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    keep(fd);
    return (int)syscall(SYS_fdatasync, fd);
}
