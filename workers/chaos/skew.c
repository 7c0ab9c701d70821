/* Lets the wall clock of one process go wrong, as that of a host whose time service is off.

   Loaded before libc (LD_PRELOAD) into every process of the fleet; what shifts is written into a file of eight bytes,
   a signed number of seconds, which the process maps once and its children share. Only clock_gettime is ours: Python
   asks it, SQLite asks gettimeofday, so that the database's clock stays the kernel's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *ahead;

int btcfi_clock_of(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    void *found = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (found == MAP_FAILED) return -1;
    ahead = found;
    return 0;
}

int clock_gettime(clockid_t which, struct timespec *at) {
    int said = (int)syscall(SYS_clock_gettime, which, at);
    if (said == 0 && ahead != NULL && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) at->tv_sec += *ahead;
    return said;
}
