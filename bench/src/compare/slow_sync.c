/* Makes every sync of a file take at least a millisecond, as on a disk that is slower than this one. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const long LEAST = 1000000;

static int slow(long call, int fd)
{
    struct timespec begun, now, rest = {0, 0};
    int result;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    result = (int)syscall(call, fd);
    clock_gettime(CLOCK_MONOTONIC, &now);
    rest.tv_nsec = LEAST - (now.tv_sec - begun.tv_sec) * 1000000000 - (now.tv_nsec - begun.tv_nsec);
    if (rest.tv_nsec > 0)
        nanosleep(&rest, NULL);
    return result;
}

int fsync(int fd)
{
    return slow(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return slow(SYS_fdatasync, fd);
}
