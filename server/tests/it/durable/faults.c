/* Makes writes and syncs of the log's files fail, for tests. The file that FAULTS names contains how
   many of a thousand writes fail, and how many of a thousand syncs; without the file none fails.
   While it is a named pipe, each write and sync waits until somebody writes the two numbers. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int fails(int fd, int sync)
{
    static __thread unsigned seed;
    char text[64] = "", link[64], path[256] = "";
    const char *file = getenv("FAULTS");
    int faults, of[2] = {0, 0};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) <= 0 || !strstr(path, "log.sqlite3"))
        return 0;
    /* Opened for the log's files only: opening a named pipe waits. */
    faults = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    if (faults < 0)
        return 0;
    if (read(faults, text, sizeof text - 1) > 0)
        sscanf(text, "%d %d", &of[0], &of[1]);
    close(faults);
    if (!seed) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        seed = (unsigned)now.tv_nsec ^ (unsigned)getpid();
    }
    if ((int)(rand_r(&seed) % 1000) >= of[sync])
        return 0;
    errno = EIO;
    return 1;
}

int fsync(int fd)
{
    return fails(fd, 1) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return fails(fd, 1) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

ssize_t write(int fd, const void *data, size_t length)
{
    return fails(fd, 0) ? -1 : syscall(SYS_write, fd, data, length);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at)
{
    return fails(fd, 0) ? -1 : syscall(SYS_pwrite64, fd, data, length, at);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at)
{
    return fails(fd, 0) ? -1 : syscall(SYS_pwrite64, fd, data, length, at);
}
